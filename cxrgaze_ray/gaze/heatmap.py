"""Gaze points to a map over the model image. Points are of the upright source: the picture that the reader saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.errors import ConfigError, RadiographError
from cxrgaze_ray.schemas import HEIGHT, WIDTH, Affine, Reason


@dataclass(frozen=True)
class GazeProfile:
    """Width of the Gaussian and where it is cut off, in source pixels."""

    sigma: float
    radius: float


_LEAST_SIGMA = 0.3
"""Model pixels: below it a Gaussian falls between the pixels' centres."""

_PROFILES = {
    # Qiu et al. (Med Phys 2025), as MT-UNet (Zhu 2022): every 60 Hz sample counts one
    "paper": GazeProfile(sigma=75.5, radius=250),
    # the data set's own script, made for fixations
    "dataset": GazeProfile(sigma=150, radius=600),
}


LOOK = np.dtype([("y", "<u2"), ("x", "<u2"), ("weight", "<f4")])
"""Where on the model image somebody looked, and how long: a count of samples, or seconds."""


class Gaze(Protocol):
    """One reading of an image: where a person looked, and how widely each look spreads."""

    def inside(self, affine: Affine) -> NDArray[np.bool_]:
        """Say which of the (N,) looks lie on the image."""
        ...

    def blur(self, affine: Affine) -> NDArray[np.float64]:
        """Return the looks that lie on the image, spread over the picture without its padding, in any unit."""
        ...

    def looks(self, affine: Affine) -> NDArray[np.void]:
        """Return the looks that lie on the model image as `LOOK`, in order, those on one pixel added up."""
        ...


@dataclass(frozen=True)
class Samples:
    """A reading as the tracker's samples, all of one length in time: every one counts one, which is dwell time.

    Attributes
    ----------
    points_N2
        (N, 2), y and x in source pixels; NaN and points off the image are ignored.
    profile
        ``paper`` or ``dataset``: one width for every sample.
    """

    points_N2: NDArray[np.float64]
    profile: str = "paper"

    def __post_init__(self) -> None:
        if self.profile not in _PROFILES:
            raise ConfigError(f"There is no gaze profile {self.profile}.", f"Profiles are {', '.join(_PROFILES)}.")

    def inside(self, affine: Affine) -> NDArray[np.bool_]:
        """Say which samples lie on the image."""
        return _inside(self.points_N2, affine)

    def blur(self, affine: Affine) -> NDArray[np.float64]:
        """Count the samples by model pixel, and blur the counts."""
        counts = np.zeros(affine.content_size, np.float64)
        np.add.at(counts, _pixels(self.points_N2[self.inside(affine)], affine), 1)
        return _blur(counts, _PROFILES[self.profile], affine)

    def looks(self, affine: Affine) -> NDArray[np.void]:
        """Count the samples by pixel of the model image."""
        points_N2 = self.points_N2[self.inside(affine)]
        return _looks(points_N2, np.ones(len(points_N2)), affine)


@dataclass(frozen=True)
class Fixations:
    """A reading as fixations: each a Gaussian of its own width, weighing as much as it lasted.

    The width is one degree of the reader's view (Lanfredi et al., Sci Data 2022: REFLACX), which differs by axis, and
    by fixation where the reader had zoomed.

    Attributes
    ----------
    points_N2
        (N, 2), y and x in source pixels; NaN and points off the image are ignored.
    seconds_N
        (N,), how long each lasted; those that are not above zero are ignored.
    sigma_N2
        (N, 2), width in source pixels, y and x; as above.
    """

    points_N2: NDArray[np.float64]
    seconds_N: NDArray[np.float64]
    sigma_N2: NDArray[np.float64]

    def usable(self) -> NDArray[np.bool_]:
        """Say which fixations have a place, a length and a width."""
        measured = np.column_stack([self.seconds_N, self.sigma_N2])
        placed = np.isfinite(self.points_N2).all(axis=1)
        return np.logical_and(placed, ((measured > 0) & np.isfinite(measured)).all(axis=1))

    def inside(self, affine: Affine) -> NDArray[np.bool_]:
        """Say which of the usable fixations lie on the image."""
        return np.logical_and(self.usable(), _inside(self.points_N2, affine))

    def blur(self, affine: Affine) -> NDArray[np.float64]:
        """Add the fixations' Gaussians, each of mass `seconds_N`: a product of two matrices, so exact and quick."""
        inside = self.inside(affine)
        points, sigma = self.points_N2[inside], self.sigma_N2[inside]
        (top, left), (height, width) = affine.content_origin, affine.content_size
        y = points[:, 0] * affine.scale_y + (affine.offset_y - top)
        x = points[:, 1] * affine.scale_x + (affine.offset_x - left)
        down = _gaussians(y, sigma[:, 0] * affine.scale_y, height)
        across = _gaussians(x, sigma[:, 1] * affine.scale_x, width)
        density: NDArray[np.float64] = (down * self.seconds_N[inside]) @ across.T
        return density

    def looks(self, affine: Affine) -> NDArray[np.void]:
        """Add up the seconds by pixel of the model image."""
        inside = self.inside(affine)
        return _looks(self.points_N2[inside], self.seconds_N[inside], affine)


def gaze_map(points_N2: NDArray[np.float64], affine: Affine, profile: str = "paper") -> NDArray[np.float32]:
    """Blur an image's gaze samples into a density: `mean_map` of one reading.

    Parameters
    ----------
    points_N2
        (N, 2), y and x in source pixels; NaN and points off the image are ignored.
    affine
        Affine of the model image.
    profile
        ``paper`` or ``dataset``.

    Returns
    -------
    ndarray
        float32 (640, 512), summing to 1.

    Raises
    ------
    RadiographError
        NO_GAZE_IN_IMAGE if no point lies on the image.
    """
    return mean_map([Samples(points_N2, profile)], affine)


def mean_map(readings: Sequence[Gaze], affine: Affine) -> NDArray[np.float32]:
    """Turn an image's readings into one density: each is normalised, then they are averaged.

    Widths are given in source pixels and carried through the image's affine; Gaussians are mirrored at the picture's
    edge, so no mass leaks into the padding. A reading with no look on the image does not take part.

    Returns
    -------
    ndarray
        float32 (640, 512), summing to 1.

    Raises
    ------
    RadiographError
        NO_GAZE_IN_IMAGE if no reading has a look on the image.
    """
    return map_readings(readings, affine).density_HW


@dataclass(frozen=True)
class ReadImage:
    """What an image's readings come to on the model image.

    Attributes
    ----------
    density_HW
        The mean of the readings' maps: see `mean_map`.
    looks
        `LOOK` of each reading that took part, in order.
    densities
        Each reading's own map; empty unless there are several.
    """

    density_HW: NDArray[np.float32]
    looks: tuple[NDArray[np.void], ...]
    densities: tuple[NDArray[np.float32], ...] = ()


def map_readings(readings: Sequence[Gaze], affine: Affine) -> ReadImage:
    """Map an image's readings together and, where there are several, each alone: see `mean_map`."""
    total, looks = np.zeros((HEIGHT, WIDTH), np.float64), []
    alone: list[NDArray[np.float32]] = []
    for reading in readings:
        if reading.inside(affine).any() and (mass := (placed := _place(reading.blur(affine), affine)).sum()) > 0:
            total += placed / mass
            looks.append(reading.looks(affine))
            alone.append((placed / mass).astype(np.float32))
    if not looks:
        raise RadiographError(Reason.NO_GAZE_IN_IMAGE, "No gaze lies on the image.")
    mean: NDArray[np.float32] = (total / len(looks)).astype(np.float32)
    return ReadImage(mean, tuple(looks), tuple(alone) if len(alone) > 1 else ())


def _pixels(points_N2: NDArray[np.float64], affine: Affine) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of points that lie on the image, in the picture without its padding."""
    (y, x), (top, left), (height, width) = points_N2.T, affine.content_origin, affine.content_size
    rows = np.clip((y * affine.scale_y + (affine.offset_y - top)).astype(int), 0, height - 1)
    columns = np.clip((x * affine.scale_x + (affine.offset_x - left)).astype(int), 0, width - 1)
    return rows, columns


def _looks(points_N2: NDArray[np.float64], weight_N: NDArray[np.float64], affine: Affine) -> NDArray[np.void]:
    (rows, columns), (top, left) = _pixels(points_N2, affine), affine.content_origin
    y, x = rows + top, columns + left
    shown = (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < WIDTH)  # a profile may crop
    flat, index = np.unique((y * WIDTH + x)[shown], return_inverse=True)
    found = np.empty(len(flat), LOOK)
    found["y"], found["x"] = np.divmod(flat, WIDTH)
    found["weight"] = np.bincount(index, weight_N[shown], len(flat))
    return found


def _inside(points_N2: NDArray[np.float64], affine: Affine) -> NDArray[np.bool_]:
    (y, x), (rows, columns) = points_N2.T, affine.upright
    inside: NDArray[np.bool_] = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    return inside


def _place(content: NDArray[np.float64], affine: Affine) -> NDArray[np.float64]:
    """Lay the picture's part of a map into the model image; what a profile crops goes."""
    density = np.zeros((HEIGHT, WIDTH), np.float64)
    density[affine.shown] = content[affine.shown_content]
    return density


def _gaussians(centre_N: NDArray[np.float64], sigma_N: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return a Gaussian a column (size, N), mirrored at both ends, each summing to 1; `size` counts model pixels."""
    sigma = np.maximum(sigma_N, _LEAST_SIGMA)
    grid = np.arange(size)[:, None] + 0.5
    columns = np.zeros((size, len(centre_N)), np.float64)
    for turn in (-1, 0, 1):
        for centre in (centre_N, -centre_N):
            columns += np.exp(-0.5 * ((grid - centre - 2 * size * turn) / sigma) ** 2)
    columns /= columns.sum(axis=0)
    return columns


def _blur(counts: NDArray[np.float64], profile: GazeProfile, affine: Affine) -> NDArray[np.float64]:
    down, across = (_kernel(profile, scale) for scale in (affine.scale_y, affine.scale_x))
    blurred: NDArray[np.float64] = _matrix(down, counts.shape[0]) @ counts @ _matrix(across, counts.shape[1]).T
    return blurred


def _matrix(kernel: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the matrix that blurs an axis mirrored at both ends: its cost does not grow with the kernel."""
    reach, period = len(kernel) // 2, 2 * size
    wrapped = np.bincount(np.arange(-reach, reach + 1) % period, kernel, period)
    to, from_ = np.ogrid[:size, :size]
    matrix: NDArray[np.float64] = wrapped[(from_ - to) % period] + wrapped[(-1 - from_ - to) % period]
    return matrix


def _kernel(profile: GazeProfile, scale: float) -> NDArray[np.float64]:
    reach = max(1, round(profile.radius * scale))
    offsets = np.arange(-reach, reach + 1) / (profile.sigma * scale)
    weights: NDArray[np.float64] = np.exp(-0.5 * offsets**2)
    weights /= weights.sum()
    return weights
