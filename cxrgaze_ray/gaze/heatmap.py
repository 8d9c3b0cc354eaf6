"""Gaze points to a map over the model image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.errors import ConfigError, RadiographError
from cxrgaze_ray.schemas import HEIGHT, WIDTH, Affine, Reason


@dataclass(frozen=True)
class GazeProfile:
    """Width of the Gaussian and where it is cut off, in source pixels."""

    sigma: float
    radius: float


_PROFILES = {
    # Qiu et al. (Med Phys 2025), as MT-UNet (Zhu 2022): every 60 Hz sample counts one
    "paper": GazeProfile(sigma=75.5, radius=250),
    # the data set's own script, made for fixations
    "dataset": GazeProfile(sigma=150, radius=600),
}


def gaze_map(points_N2: NDArray[np.float64], affine: Affine, profile: str = "paper") -> NDArray[np.float32]:
    """Blur an image's gaze points into a density.

    Every in-image point counts one, which is dwell time where points are samples. The Gaussian's width is given in
    source pixels and carried through the image's affine; it is mirrored at the picture's edge, so no mass leaks into
    the padding.

    Parameters
    ----------
    points_N2
        (N, 2), y and x in source pixels; NaN and points off the image are ignored.
    affine
        Of the model image.
    profile
        ``paper`` or ``dataset``.

    Returns
    -------
    ndarray
        float32 (640, 512), summing to 1.

    Raises
    ------
    RadiographError
        NO_GAZE_IN_IMAGE if no point lies on the image, or all of it on a part that the profile crops.
    """
    if profile not in _PROFILES:
        raise ConfigError(f"There is no gaze profile {profile}.", f"Profiles are {', '.join(_PROFILES)}.")
    y, x = points_N2[:, 0], points_N2[:, 1]
    inside = (y >= 0) & (y < affine.rows) & (x >= 0) & (x < affine.columns)
    if not inside.any():
        raise RadiographError(Reason.NO_GAZE_IN_IMAGE, "No gaze sample lies on the image.")
    height, width = affine.content_size
    top, left = affine.content_origin
    counts = np.zeros((height, width), np.float64)
    rows = np.clip((y[inside] * affine.scale_y + (affine.offset_y - top)).astype(int), 0, height - 1)
    columns = np.clip((x[inside] * affine.scale_x + (affine.offset_x - left)).astype(int), 0, width - 1)
    np.add.at(counts, (rows, columns), 1)
    return _place(_blur(counts, _PROFILES[profile], affine), affine)


def _place(content: NDArray[np.float64], affine: Affine) -> NDArray[np.float32]:
    """Put a density of the whole picture on the model image: what was cropped goes, the rest sums to 1."""
    density = np.zeros((HEIGHT, WIDTH), np.float64)
    density[affine.shown] = content[affine.shown_content]
    total = density.sum()
    if not total > 0:
        raise RadiographError(Reason.NO_GAZE_IN_IMAGE, "All gaze lies on a part that the profile crops.")
    result: NDArray[np.float32] = (density / total).astype(np.float32)
    return result


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
