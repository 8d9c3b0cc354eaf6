"""Radiograph to model image: named profiles, and the only resize and normalise there is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.errors import ConfigError, RadiographError
from cxrgaze_ray.radiograph import Radiograph
from cxrgaze_ray.schemas import HEIGHT, WIDTH, Affine, Reason

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_PROFILE = "cxrgaze-v1"
_FULL = 65535


@dataclass(frozen=True)
class Profile:
    """How values become a model image; its hash travels with the weights."""

    name: str
    clip_low: float
    clip_high: float
    height: int = HEIGHT
    width: int = WIDTH
    revision: int = 1

    def sha256(self) -> str:
        """Identify the profile by its settings."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


_PROFILES = {profile.name: profile for profile in (Profile(DEFAULT_PROFILE, clip_low=0.001, clip_high=0.999),)}


@dataclass(frozen=True)
class ModelImage:
    """What a network sees.

    Attributes
    ----------
    pixels
        uint16 (640, 512); 0..65535 stands for [0,1], brighter is denser.
    affine
        From source pixels to model pixels.
    intensity_p1, intensity_p50, intensity_p99, intensity_mean
        In [0,1], of the picture without its padding.
    """

    pixels: NDArray[np.uint16]
    affine: Affine
    intensity_p1: float
    intensity_p50: float
    intensity_p99: float
    intensity_mean: float


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles."""
    return tuple(_PROFILES)


def profile_sha256(name: str) -> str:
    """Return the hash of a profile's settings; ConfigError if there is no such profile."""
    return _profile(name).sha256()


def _profile(name: str) -> Profile:
    if name not in _PROFILES:
        raise ConfigError(f"There is no profile {name}.", f"Profiles are {', '.join(_PROFILES)}.")
    return _PROFILES[name]


def prepare(radiograph: Radiograph, profile: str = DEFAULT_PROFILE) -> ModelImage:
    """Bring a radiograph to a model image.

    ``cxrgaze-v1``: values (padding left out) clipped at the 0.1 and 99.9 percentiles and scaled to [0,1], MONOCHROME1
    inverted once, aspect kept, area resampling into 640x512 (bilinear where the source is smaller), centred zero
    padding. Percentiles come from a histogram: one bin a value for integers of up to 16 bits, 4,096 bins otherwise.

    Raises
    ------
    RadiographError
        CONSTANT_IMAGE if the two percentiles are equal.
    """
    chosen = _profile(profile)
    scaled = _scale(radiograph, chosen)
    affine = fit(scaled.shape[0], scaled.shape[1], chosen.height, chosen.width)
    content = _resize(scaled, affine)
    pixels = np.zeros((chosen.height, chosen.width), np.uint16)
    top, left = round(affine.offset_y), round(affine.offset_x)
    quantised = np.rint(np.clip(content, 0, 1) * _FULL).astype(np.uint16)
    pixels[top : top + quantised.shape[0], left : left + quantised.shape[1]] = quantised
    p1, p50, p99 = (_histogram_percentile(quantised, share) / _FULL for share in (0.01, 0.5, 0.99))
    return ModelImage(pixels, affine, p1, p50, p99, float(quantised.mean()) / _FULL)


def fit(rows: int, columns: int, height: int = HEIGHT, width: int = WIDTH) -> Affine:
    """Return the affine that fits a source into the model image, centred, aspect kept to the pixel."""
    scale = min(height / rows, width / columns)
    inner_height, inner_width = max(1, round(rows * scale)), max(1, round(columns * scale))
    return Affine(
        scale_y=inner_height / rows,
        scale_x=inner_width / columns,
        offset_y=float((height - inner_height) // 2),
        offset_x=float((width - inner_width) // 2),
        rows=rows,
        columns=columns,
    )


def _resize(image: NDArray[np.float32], affine: Affine) -> NDArray[np.float32]:
    height, width = affine.content_size
    shrinking = affine.scale_y <= 1 and affine.scale_x <= 1
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method).astype(np.float32, copy=False)


def _scale(radiograph: Radiograph, profile: Profile) -> NDArray[np.float32]:
    pixels, valid = radiograph.pixels, radiograph.valid
    usable = pixels if valid is None else pixels[valid]
    if usable.size == 0:
        raise RadiographError(Reason.CONSTANT_IMAGE, "The image holds padding only.")
    low, high = (_histogram_percentile(usable, share) for share in (profile.clip_low, profile.clip_high))
    if not high > low:
        raise RadiographError(Reason.CONSTANT_IMAGE, "The image has one value only.")
    scaled = (pixels.astype(np.float32) - np.float32(low)) * np.float32(1 / (high - low))
    np.clip(scaled, 0, 1, out=scaled)
    if radiograph.inverted:
        np.subtract(1, scaled, out=scaled)
    if valid is not None:
        scaled[~valid] = 0
    return scaled


def _histogram_percentile(values: NDArray[Any], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    if values.dtype.kind in "ui" and values.dtype.itemsize <= 2:
        base = int(values.min())
        counts = np.bincount((values.astype(np.int32) - base).ravel())
        return float(base + _rank(counts, share))
    finite = values[np.isfinite(values)].astype(np.float64)
    if finite.size == 0 or finite.min() == finite.max():
        return float(finite[0]) if finite.size else 0.0
    counts, edges = np.histogram(finite, bins=4096)
    return float(edges[_rank(counts, share)])


def _rank(counts: NDArray[np.intp], share: float) -> int:
    total = np.cumsum(counts)
    return int(np.searchsorted(total, share * total[-1]))


def to_network(images_BHW: NDArray[np.uint16], size: tuple[int, int]) -> Tensor:
    """Bring model images to a network's input size.

    Parameters
    ----------
    images_BHW
        uint16 (B, 640, 512).
    size
        Height and width of the network's input.

    Returns
    -------
    torch.Tensor
        float32 (B, 1, h, w) in [0,1], area resampled: exactly so where the ratio is whole, as in every preset.
    """
    import torch  # decoding processes use this module without it
    from torch.nn import functional

    image_B1HW = torch.from_numpy(images_BHW.astype(np.float32))[:, None] / _FULL
    if tuple(image_B1HW.shape[-2:]) == size:
        return image_B1HW
    return functional.interpolate(image_B1HW, size, mode="area")
