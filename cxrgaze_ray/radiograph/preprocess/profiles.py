"""The profiles: each says what its values become, where they go, and where the recipe is from."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.errors import ConfigError, RadiographError
from cxrgaze_ray.radiograph.preprocess.geometry import fit, resample, stride
from cxrgaze_ray.radiograph.preprocess.levels import count_levels, level_values, look_up, percentiles, stored_levels
from cxrgaze_ray.radiograph.reading import Radiograph
from cxrgaze_ray.schemas import HEIGHT, WIDTH, Affine, Reason

DEFAULT_PROFILE = "cxrgaze-v1"

Content = tuple[NDArray[Any], Affine]
"""The upright picture without the model image's padding, values in [0,1], and where it goes."""


@dataclass(frozen=True, kw_only=True)
class Profile(ABC):
    """How values become a model image; the hash of its settings travels with the weights."""

    name: str
    height: int = HEIGHT
    width: int = WIDTH
    revision: int = 1

    reducible: ClassVar[bool] = True
    """Whether a decode at reduced resolution may take the file's place."""

    def sha256(self) -> str:
        """Identify the profile by its settings."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @abstractmethod
    def draw(self, radiograph: Radiograph) -> Content:
        """Make the picture; RadiographError CONSTANT_IMAGE if there is none in it."""

    def _fitted(self, image: NDArray[np.float32], radiograph: Radiograph) -> Content:
        affine = fit(*radiograph.source_size, self.height, self.width, radiograph.pixel_aspect)
        return resample(image, affine), affine


@dataclass(frozen=True, kw_only=True)
class Percentiles(Profile):
    """``cxrgaze-v1``, the default: robust without trusting any tag on how to show the image.

    Values after the Modality LUT (padding left out) clipped at the 0.1 and 99.9 percentiles and scaled to [0,1], no
    window, MONOCHROME1 inverted once, aspect kept, area resampling (bilinear where the source is smaller), centred
    zero padding. Percentiles come from a histogram: one bin a value for integers, 4,096 bins after a rescale.

    Source: our own. One hot pixel at 65535 costs min-max scaling 76 of 145 grey levels; percentiles lose none.
    """

    clip_low: float = 0.001
    clip_high: float = 0.999

    def draw(self, radiograph: Radiograph) -> Content:
        """Clip, scale, invert, resample."""
        counts, values = _counted(radiograph), level_values(radiograph)
        low, high = percentiles(values, counts, (self.clip_low, self.clip_high))
        if not high > low:
            raise RadiographError(Reason.CONSTANT_IMAGE, "The image has one value only.")
        grey = (values.astype(np.float32) - np.float32(low)) * np.float32(1 / (high - low))
        return self._fitted(_shown(radiograph, np.clip(grey, 0, 1)), radiograph)


@dataclass(frozen=True, kw_only=True)
class ViewerWindow(Percentiles):
    """``voi-v1``: the image as a viewer opens it, which is what the radiologist saw.

    Modality LUT, the file's first VOI (a look-up table before a window, DICOM PS3.3 C.11.2), then MONOCHROME1 inverted
    once, padding black; resampled as cxrgaze-v1. A file without a VOI, JPEG and PNG included, is cxrgaze-v1's.

    Source: the order of DICOM PS3.4 N.2. Depends on what each vendor writes, and much of that differs.
    """

    def draw(self, radiograph: Radiograph) -> Content:
        """Apply the VOI, invert, resample."""
        if radiograph.voi is None:
            return super().draw(radiograph)
        used, values = _counted(radiograph) > 0, level_values(radiograph)
        grey = np.zeros(len(values), np.float32)
        grey[used] = np.clip(radiograph.voi.apply(values[used]), 0, 1)
        if grey[used].min() == grey[used].max():
            raise RadiographError(Reason.CONSTANT_IMAGE, "The file's window shows one value only.")
        return self._fitted(_shown(radiograph, grey), radiograph)


@dataclass(frozen=True, kw_only=True)
class Equalised(Profile):
    """``mimic-jpg-v1``: the recipe that made MIMIC-CXR-JPG of MIMIC-CXR.

    Stored values, no Modality LUT: minus the minimum, over the maximum, times 255, truncated to 8 bits, inverted if
    MONOCHROME1, histogram equalised (OpenCV); padding is not left out. Then resampled as cxrgaze-v1. The recipe's last
    step, a JPEG of quality 95, is left out: its bytes depend on the codec; it moves a pixel by about 1 of 255. JPEG and
    PNG go through the same steps: a file of MIMIC-CXR-JPG, equalised already, changes by less than 1 of 255.

    Source: Johnson et al., MIMIC-CXR-JPG, 2019, arXiv 1901.07042.
    """

    def draw(self, radiograph: Radiograph) -> Content:
        """Stretch to 8 bits, invert, equalise, resample."""
        stored = radiograph.stored
        used, values = count_levels(stored) > 0, stored_levels(stored).astype(np.float64)
        low, high = values[used].min(), values[used].max()
        if not high > low:
            raise RadiographError(Reason.CONSTANT_IMAGE, "The image has one value only.")
        table = np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)
        table = 255 - table if radiograph.inverted else table
        grey = np.asarray(cv2.equalizeHist(look_up(stored, table)), np.uint8)
        return self._fitted(look_up(grey, np.arange(256, dtype=np.float32) / np.float32(255)), radiograph)


@dataclass(frozen=True, kw_only=True)
class Strided(Profile):
    """``released-v1``: what the paper's released research code did, to compare with its weights.

    Raw stored values, no Modality LUT, no window, no inversion; centred with zero padding on 3200x2560; every fifth
    pixel in both directions, without a filter; divided by the largest of what is left, negative values as 0. Larger
    sources, which that code did not meet, are cropped to their centre. Padding pixels count as any other.

    Source: Qiu, Rivaz, Xiao, Medical Physics 2025, the authors' code. It aliases fine detail, shows MONOCHROME1
    inverted, and depends on the file's matrix size: use it for released weights only.
    """

    step: int = 5
    reducible: ClassVar[bool] = False

    def draw(self, radiograph: Radiograph) -> Content:
        """Take every fifth pixel, divide by the largest."""
        rows, columns = radiograph.stored.shape
        affine = stride(rows, columns, self.step, self.height, self.width)
        first = [
            round((shown.start + 0.5 - offset) * self.step - 0.5)
            for shown, offset in zip(affine.shown, (affine.offset_y, affine.offset_x), strict=True)
        ]
        height, width = (shown.stop - shown.start for shown in affine.shown)
        taken = radiograph.stored[first[0] :: self.step, first[1] :: self.step][:height, :width]
        if taken.size == 0 or taken.max() <= 0 or taken.min() == taken.max():
            raise RadiographError(Reason.CONSTANT_IMAGE, "Every fifth pixel shows one value only.")
        return np.maximum(taken, 0) / float(taken.max()), affine


_PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Percentiles(name=DEFAULT_PROFILE),
        Strided(name="released-v1"),
        Equalised(name="mimic-jpg-v1"),
        ViewerWindow(name="voi-v1"),
    )
}


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles."""
    return tuple(_PROFILES)


def profile_sha256(name: str) -> str:
    """Return the hash of a profile's settings; ConfigError if there is no such profile."""
    return find_profile(name).sha256()


def find_profile(name: str) -> Profile:
    """Return a profile; ConfigError if there is none of that name."""
    if name not in _PROFILES:
        raise ConfigError(f"There is no profile {name}.", f"Profiles are {', '.join(_PROFILES)}.")
    return _PROFILES[name]


def check_reducible(name: str) -> None:
    """Raise ConfigError if a profile needs every pixel of the file, and so can't be combined with reduced decoding."""
    if not find_profile(name).reducible:
        raise ConfigError(f"Profile {name} takes single pixels of the file.", "Leave --decode reduced out.")


def _counted(radiograph: Radiograph) -> NDArray[np.int64]:
    counts = count_levels(radiograph.stored, radiograph.valid)
    if not counts.any():
        raise RadiographError(Reason.CONSTANT_IMAGE, "The image holds padding only.")
    return counts


def _shown(radiograph: Radiograph, grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Look the pixels up in the grey of every level, inverted once for MONOCHROME1; padding is 0."""
    image: NDArray[np.float32] = look_up(radiograph.stored, 1 - grey if radiograph.inverted else grey)
    if radiograph.valid is not None:
        np.multiply(image, radiograph.valid, out=image)
    return image
