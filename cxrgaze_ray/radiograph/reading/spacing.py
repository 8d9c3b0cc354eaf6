"""The shape of a pixel, as the tags say."""

from __future__ import annotations

from pydicom import Dataset

from cxrgaze_ray.radiograph.pixel_data.tags import numbers
from cxrgaze_ray.schemas import Oddity

_TAGS = ("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
"""Height, then width of a pixel, the most trusted first (PS3.3 10.7.1.3, C.7.6.3.1.7)."""

_TOLERANCE = 0.01
"""Less than this is rounding of decimal strings, or what no eye sees."""

_FLATTEST = 4.0


def read_pixel_aspect(dataset: Dataset) -> tuple[float, set[Oddity]]:
    """Return the height of a pixel over its width, and whether that is odd.

    Returns
    -------
    float
        Exactly 1 for square pixels, and where the tags give no shape (two zeros are none), one that can't be, or two.
    set of Oddity
        PIXEL_ASPECT if it is not 1, PIXEL_ASPECT_UNCLEAR if tags were not believed.
    """
    given = [values for tag in _TAGS if len(values := numbers(dataset, tag)) == 2 and any(values)]
    aspects = [height / width if height > 0 and width > 0 else 0.0 for height, width in given]
    possible = [aspect for aspect in aspects if 1 / _FLATTEST <= aspect <= _FLATTEST]
    if not aspects:
        return 1.0, set()
    if len(possible) < len(aspects) or max(possible) > min(possible) * (1 + _TOLERANCE):
        return 1.0, {Oddity.PIXEL_ASPECT_UNCLEAR}
    if abs(possible[0] - 1) <= _TOLERANCE:
        return 1.0, set()
    return possible[0], {Oddity.PIXEL_ASPECT}
