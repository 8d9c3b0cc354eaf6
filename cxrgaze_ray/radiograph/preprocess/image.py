"""The model image of a radiograph."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.radiograph.preprocess.levels import count_levels, percentiles
from cxrgaze_ray.radiograph.preprocess.profiles import DEFAULT_PROFILE, check_reducible, find_profile
from cxrgaze_ray.radiograph.reading import Radiograph
from cxrgaze_ray.schemas import Affine

_FULL = 65535


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


def prepare(radiograph: Radiograph, profile: str = DEFAULT_PROFILE) -> ModelImage:
    """Bring a radiograph to a model image, as its profile says: see `profiles`.

    Parameters
    ----------
    radiograph
        Its stored values have 8 or 16 bits. Where fewer pixels were decoded, its facts still say the source's size.
    profile
        One of `profile_names`.

    Raises
    ------
    RadiographError
        CONSTANT_IMAGE if the profile finds no contrast.
    ConfigError
        If there is no such profile, or it can't use an image that was decoded at reduced resolution.
    """
    if radiograph.facts.decode != "full":
        check_reducible(profile)
    chosen = find_profile(profile)
    content, affine = chosen.draw(radiograph)
    quantised = np.rint(np.clip(content, 0, 1) * _FULL).astype(np.uint16)
    pixels = np.zeros((chosen.height, chosen.width), np.uint16)
    pixels[affine.shown] = quantised
    levels = np.arange(_FULL + 1, dtype=np.uint16)
    p1, p50, p99 = (level / _FULL for level in percentiles(levels, count_levels(quantised), (0.01, 0.5, 0.99)))
    return ModelImage(pixels, affine.turned(radiograph.orientation), p1, p50, p99, float(quantised.mean()) / _FULL)


def draw_picture(radiograph: Radiograph, height: int, width: int) -> NDArray[np.uint8]:
    """Draw a radiograph for people to look at: the default profile's greys on a finer grid, without padding.

    Parameters
    ----------
    radiograph
        Decoded at full resolution.
    height, width
        Box in pixels that the picture fills, upright, its aspect kept.

    Returns
    -------
    NDArray[np.uint8]
        As high as the box or as wide; brighter is denser.

    Raises
    ------
    RadiographError
        CONSTANT_IMAGE if there is no contrast.
    """
    content, _ = replace(find_profile(DEFAULT_PROFILE), height=height, width=width).draw(radiograph)
    picture: NDArray[np.uint8] = np.rint(np.clip(content, 0, 1) * 255).astype(np.uint8)
    return picture
