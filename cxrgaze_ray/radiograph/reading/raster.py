"""JPEG and PNG, 8 and 16 bit."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.pixel_data.bounds import BAD_DATA, check_size, decoder_errors
from cxrgaze_ray.radiograph.pixel_data.colour import grey_of
from cxrgaze_ray.radiograph.pixel_data.frames import reduction
from cxrgaze_ray.radiograph.pixel_data.scan import check_scan
from cxrgaze_ray.radiograph.reading.facts import DECODES, Facts, Radiograph, Reading
from cxrgaze_ray.radiograph.reading.quiet import quiet
from cxrgaze_ray.radiograph.reading.views import is_frontal, read_view
from cxrgaze_ray.schemas import Oddity, Reason, join_oddities
from cxrgaze_ray.schemas.orientation import ORIENTATIONS, UPRIGHT, turn

_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH_AND_COLOUR = slice(24, 26)
_WIDE_CHANNELS = frozenset({bytes((16, 2)), bytes((16, 4)), bytes((16, 6))})
"""Bit depth and colour type of PNGs that Pillow cuts to 8 bits: RGB, grey with alpha, RGB with alpha (PNG 11.2.2)."""


class _Picture(NamedTuple):
    """A decoded picture as it is stored: its grey, False where it is transparent, its bits, and what was odd."""

    grey: NDArray[Any]
    valid: NDArray[np.bool_] | None
    bits: int
    oddities: set[Oddity]


def read_raster(data: bytes, reading: Reading) -> Radiograph:
    """Read a JPEG or PNG, turned upright; grey kept in colour channels counts as grey, what is transparent as padding.

    A JPEG may be decoded at a lower resolution. Of a phone's several pictures in one JPEG (MPO) the first one is read:
    the others are previews, or made for its depth.

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
            check_size(image.height, image.width)
            _check_whole(data)
            by = _load(image, reduced=reading.reduced)
            orientation = _orientation(image)
        picture = _picture(image, data)
    except RadiographError as error:
        error.facts = asdict(facts)
        raise
    turned = {Oddity.TURNED} if orientation != UPRIGHT else set()
    facts = replace(
        facts, bits_stored=picture.bits, decode=DECODES[by], oddities=join_oddities(picture.oddities | turned)
    )
    upright = np.ascontiguousarray(turn(picture.grey, orientation))
    valid = None if picture.valid is None else np.ascontiguousarray(turn(picture.valid, orientation))
    return Radiograph(upright, upright, valid, False, facts, orientation=orientation)


def _check_whole(data: bytes) -> None:
    """Refuse a picture whose rest is zeros, as a copy that was broken off leaves it: to Pillow these are pixels.

    In a PNG it stops at the last row, before the sum of the last block of pixels (PNG 5.3, 11.2.3).
    """
    if not data.startswith(_PNG):
        check_scan(data)
        return
    place = len(_PNG)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if kind == b"IEND":
            return
        if kind == b"IDAT" and end <= len(data):
            told = int.from_bytes(data[end - 4 : end], "big")
            if zlib.crc32(memoryview(data)[place + 4 : end - 4]) != told:
                raise RadiographError(Reason.CORRUPT, "The picture's data does not have the sum that it says.")
        place = end
    raise RadiographError(Reason.TRUNCATED, "The picture ends before its data does.")


def _load(image: Image.Image, *, reduced: bool) -> int:
    """Decode one frame whose size was checked, and return what its sides were divided by."""
    columns, rows = image.size
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise RadiographError(Reason.MULTI_FRAME, "The file holds more than one frame.")
    by = reduction(rows, columns) if reduced and image.format in ("JPEG", "MPO") else 1
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


def _orientation(image: Image.Image) -> int:
    """Return Exif's orientation; upright if the file has none, or one that can't be read, as every viewer has it."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except BAD_DATA:
        return UPRIGHT
    return found if found in ORIENTATIONS else UPRIGHT


def _picture(image: Image.Image, data: bytes) -> _Picture:
    if image.format == "PNG" and data[_DEPTH_AND_COLOUR] in _WIDE_CHANNELS:
        return _of_channels(_wide_channels(data), image.info.get("transparency"))
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise RadiographError(Reason.CORRUPT, "The picture's values are not 16 bit.")
        return _Picture(values.astype(np.uint16), _opaque(values, image.info.get("transparency")), 16, set())
    if image.mode in ("L", "1") and "transparency" not in image.info:
        return _Picture(_converted(image, "L"), None, 8, set())
    if image.mode == "P" and image.palette is None:  # with transparency, Pillow would make black of it
        raise RadiographError(Reason.CORRUPT, "The picture's palette is missing.")
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        return _of_channels(_converted(image, "RGBA"))
    return _of_channels(_converted(image, "RGB"))


def _of_channels(channels: NDArray[Any], transparent: Any = None) -> _Picture:
    """Make grey of (rows, columns, channels): grey or red, green and blue, then perhaps alpha."""
    colours, alpha = channels, None
    if channels.shape[2] in (2, 4):
        colours, alpha = channels[..., :-1], channels[..., -1]
    valid = _opaque(colours, transparent) if alpha is None else _mask(alpha > 0)
    grey, oddities = (colours[..., 0], set()) if colours.shape[2] == 1 else _grey_of_opaque(colours, valid)
    return _Picture(np.ascontiguousarray(grey), valid, 8 * channels.itemsize, oddities)


def _grey_of_opaque(colours: NDArray[Any], valid: NDArray[np.bool_] | None) -> tuple[NDArray[Any], set[Oddity]]:
    """Make grey of what can be seen: a transparent border may hold any colour."""
    return grey_of(colours if valid is None else np.where(valid[..., None], colours, 0).astype(colours.dtype))


def _opaque(values: NDArray[Any], transparent: Any) -> NDArray[np.bool_] | None:
    """Return False where a picture has the one value or colour that stands for transparent (PNG 11.3.2.1)."""
    if not isinstance(transparent, int | tuple):
        return None
    same = values == np.asarray(transparent)
    return _mask(~(same.all(axis=2) if same.ndim == 3 else same))


def _mask(opaque: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return None if opaque.all() else opaque


def _wide_channels(data: bytes) -> NDArray[np.uint16]:
    import imagecodecs  # here because few archives need it

    with decoder_errors():
        return np.asarray(imagecodecs.png_decode(data), np.uint16)


def _converted(image: Image.Image, mode: str) -> NDArray[np.uint8]:
    with quiet(), decoder_errors():  # a palette may be missing or short, which shows only here
        return np.asarray(image.convert(mode))
