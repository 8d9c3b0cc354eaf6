"""JPEG and PNG, 8 and 16 bit."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.bounds import check_size, decoder_errors
from cxrgaze_ray.radiograph.facts import DECODES, Facts, Radiograph, Reading
from cxrgaze_ray.radiograph.frames import reduction
from cxrgaze_ray.radiograph.quiet import quiet
from cxrgaze_ray.radiograph.views import is_frontal, read_view
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
    view = read_view(reading.known_view)[0]
    facts = Facts(view_position=view, view_source=reading.known_view_source if view else "unknown")
    try:
        if reading.frontal_only and not is_frontal(view):
            raise RadiographError(Reason.LATERAL_VIEW, "The view is not frontal.")
        with quiet(), decoder_errors(), Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            facts = replace(facts, rows=image.height, columns=image.width)
            by = _load(image, reduced=reading.reduced)
        pixels, bits = _grey(image)
    except RadiographError as error:
        error.facts = asdict(facts)
        raise
    return Radiograph(pixels, pixels, None, False, replace(facts, bits_stored=bits, decode=DECODES[by]))


def _load(image: Image.Image, *, reduced: bool) -> int:
    """Decode one frame whose size is checked first, and return what its sides were divided by."""
    columns, rows = image.size
    check_size(rows, columns)
    if getattr(image, "n_frames", 1) > 1:
        raise RadiographError(Reason.MULTI_FRAME, "The file holds more than one frame.")
    by = reduction(rows, columns) if reduced and image.format == "JPEG" else 1
    if by > 1:
        image.draft(None, (columns // by, rows // by))
    _decode(image)
    return by


def _decode(image: Image.Image) -> None:
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
        return _converted(image, "L"), 8
    return _grey_of_colours(_converted(image, "RGB")), 8


def _converted(image: Image.Image, mode: str) -> NDArray[np.uint8]:
    with quiet(), decoder_errors():  # a palette may be missing or short, which shows only here
        return np.asarray(image.convert(mode))


def _grey_of_colours(rgb_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    spread_HW = rgb_HW3.max(axis=2).astype(np.int16) - rgb_HW3.min(axis=2)
    if spread_HW.mean() > _CHROMA_NOISE / 4 or np.percentile(spread_HW[::4, ::4], 99) > _CHROMA_NOISE * 4:
        raise RadiographError(Reason.NOT_GREYSCALE, "The picture is in colour.")
    grey: NDArray[np.uint8] = np.asarray(Image.fromarray(rgb_HW3).convert("L"))
    return grey
