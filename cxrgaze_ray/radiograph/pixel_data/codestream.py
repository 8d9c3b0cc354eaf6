"""Headers of compressed images, read before a decoder allocates for them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.schemas import Reason

_SIZ = b"\xff\x4f\xff\x51"
_JP2 = b"\x00\x00\x00\x0cjP  "
_COD = 0xFF52
_START_OF_TILE = 0xFF90
_NO_FRAME = {0xC4, 0xC8, 0xCC}
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
_FAMILIES = {0xC3: "lossless_jpeg", 0xF7: "jpeg_ls"}
_END = b"\xff\xd9"
_START_OF_SCAN = 0xDA


@dataclass(frozen=True)
class Codestream:
    """What a compressed image says of itself.

    Attributes
    ----------
    family
        Which decoder takes it: see `codecs.Codec`.
    rows, columns, components, precision
        Size in pixels, channels, and bits of a sample.
    levels
        How many times a wavelet image can be halved; 0 for others.
    origin
        Whether the image starts at (0, 0) of its grid.
    signed
        Whether samples are signed; None where the format does not say, which only wavelets do.
    """

    family: str
    rows: int
    columns: int
    components: int
    precision: int
    levels: int = 0
    origin: bool = True
    signed: bool | None = None


def read_header(frame: bytes) -> Codestream:
    """Read what a compressed image says of itself, whatever it is said to be.

    Raises
    ------
    RadiographError
        CORRUPT if it is neither a JPEG, a JPEG-LS nor a JPEG 2000.
    """
    if frame.startswith((_SIZ, _JP2)):
        return read_wavelet_header(wavelet_codestream(frame))
    return read_jpeg_header(frame)


def whole_jpeg(frame: bytes) -> bytes | None:
    """Return a JPEG or JPEG-LS up to its end marker, without what follows; None if it does not end.

    Both formats keep the marker out of their scans (ITU-T T.81 B.1.1.5, T.87 A.1), and a table between two scans can't
    hold it; a thumbnail before the first one can.
    """
    scan = next((place for marker, place in _segments(frame) if marker == _START_OF_SCAN), None)
    end = -1 if scan is None else frame.find(_END, scan)
    return None if end < 0 else frame[: end + len(_END)]


def read_jpeg_header(frame: bytes) -> Codestream:
    """Read the frame header of a JPEG or JPEG-LS: the first SOFn (ITU-T T.81 B.2.2, T.87 C.2.2).

    Raises
    ------
    RadiographError
        CORRUPT if there is none.
    """
    for marker, place in _segments(frame):
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME):
            precision, rows, columns, components = struct.unpack_from(">BHHB", frame, place + 4)
            return Codestream(_FAMILIES.get(marker, "dct"), rows, columns, components, precision)
    raise RadiographError(Reason.CORRUPT, "The pixel data is no JPEG.")


def _segments(frame: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and place of each segment of a JPEG or JPEG-LS, until its bytes are none."""
    place = 2 if frame.startswith(b"\xff\xd8") else len(frame)
    while place + 10 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _NO_LENGTH:
            place += 2
        else:
            yield marker, place
            place += 2 + max(2, int.from_bytes(frame[place + 2 : place + 4], "big"))


def wavelet_codestream(frame: bytes) -> bytes:
    """Return the JPEG 2000 codestream of a frame, out of its JP2 boxes if it has any.

    Raises
    ------
    RadiographError
        CORRUPT if its samples are indices: DICOM knows no such boxes (PS3.5 8.2.4), and they would be read as grey.
    """
    place = 0
    while frame.startswith(_JP2) and place + 8 <= len(frame):
        length, kind = struct.unpack_from(">I4s", frame, place)
        if kind == b"jp2h" and b"pclr" in frame[place : place + length]:
            raise RadiographError(Reason.CORRUPT, "The compressed image has a palette of its own.")
        if kind == b"jp2c":
            return frame[place + (16 if length == 1 else 8) :]
        if length < 8:
            break
        place += length
    return frame


def read_wavelet_header(codestream: bytes) -> Codestream:
    """Read a JPEG 2000 or HTJ2K codestream's SIZ and COD segments (ISO/IEC 15444-1 A.5.1 and A.6.1).

    Raises
    ------
    RadiographError
        CORRUPT if it has no SIZ segment where it starts.
    """
    if not codestream.startswith(_SIZ) or len(codestream) < 45:
        raise RadiographError(Reason.CORRUPT, "The pixel data is no JPEG 2000 codestream.")
    right, bottom, left, top = struct.unpack_from(">4I", codestream, 8)
    tile_left, tile_top, components, depth, x_step, y_step = struct.unpack_from(">2IH3B", codestream, 32)
    x_step, y_step = max(1, x_step), max(1, y_step)
    depths = {codestream[place] for place in range(42, 42 + 3 * components, 3) if place < len(codestream)}
    if len(depths) != 1:
        raise RadiographError(Reason.CORRUPT, "The channels of the JPEG 2000 codestream have unlike samples.")
    return Codestream(
        family="wavelet",
        rows=-(-bottom // y_step) + (-top // y_step),
        columns=-(-right // x_step) + (-left // x_step),
        components=components,
        precision=(depth & 0x7F) + 1,
        levels=_levels(codestream),
        origin=(left, top, tile_left, tile_top, x_step, y_step) == (0, 0, 0, 0, 1, 1),
        signed=depth >= 0x80,
    )


def _levels(codestream: bytes) -> int:
    """Return the decomposition levels of the COD segment; 0 if there is none before the first tile."""
    place = 2
    while place + 10 <= len(codestream):
        marker, length = struct.unpack_from(">HH", codestream, place)
        if marker == _COD:
            return codestream[place + 9]
        if marker == _START_OF_TILE or marker < 0xFF00:
            return 0
        place += 2 + max(2, length)
    return 0
