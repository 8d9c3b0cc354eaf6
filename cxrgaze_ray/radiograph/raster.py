"""JPEG and PNG, 8 and 16 bit."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.bounds import check_size, decoder_errors
from cxrgaze_ray.radiograph.facts import DECODES, Facts, Radiograph, Reading
from cxrgaze_ray.radiograph.frames import reduction
from cxrgaze_ray.radiograph.quiet import quiet
from cxrgaze_ray.schemas import Reason

_CHROMA_NOISE = 6
"""Largest mean spread of a grey picture's channels, of 255, that JPEG's colour coding leaves."""


def read_raster(data: bytes, reading: Reading) -> Radiograph:
    """Read a JPEG or PNG; grey kept in colour channels counts as grey. A JPEG may be decoded at a lower resolution.

    Raises
    ------
    RadiographError
        TRUNCATED, CORRUPT, TOO_LARGE, MULTI_FRAME or NOT_GREYSCALE.
    """
    with quiet(), decoder_errors(), Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
        check_size(image.height, image.width)
        if getattr(image, "n_frames", 1) > 1:
            raise RadiographError(Reason.MULTI_FRAME, "The file holds more than one frame.")
        columns, rows = image.size
        by = reduction(rows, columns) if reading.reduced and image.format == "JPEG" else 1
        if by > 1:
            image.draft(None, (columns // by, rows // by))
        _load(image)
    pixels, bits = _grey(image)
    facts = Facts(
        bits_stored=bits,
        rows=rows,
        columns=columns,
        decode=DECODES[by],
    )
    return Radiograph(pixels, pixels, None, inverted=False, facts=facts)


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except (OSError, SyntaxError) as error:
        if "truncated" in str(error).lower():
            raise RadiographError(Reason.TRUNCATED, "The picture ends before its data does.") from None
        raise


def _grey(image: Image.Image) -> tuple[NDArray[Any], int]:
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise RadiographError(Reason.CORRUPT, "The picture's values are not 16 bit.")
        return values.astype(np.uint16), 16
    if image.mode in ("L", "LA", "1"):
        return np.asarray(image.convert("L")), 8
    return _grey_of_colours(np.asarray(image.convert("RGB"))), 8


def _grey_of_colours(rgb_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    spread_HW = rgb_HW3.max(axis=2).astype(np.int16) - rgb_HW3.min(axis=2)
    if spread_HW.mean() > _CHROMA_NOISE / 4 or np.percentile(spread_HW[::4, ::4], 99) > _CHROMA_NOISE * 4:
        raise RadiographError(Reason.NOT_GREYSCALE, "The picture is in colour.")
    grey: NDArray[np.uint8] = np.asarray(Image.fromarray(rgb_HW3).convert("L"))
    return grey
