"""Data elements whose VR does not exist: pydicom cannot walk past them, and loses the pixels behind."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.schemas import Reason

_KNOWN = {vr.encode() for vr in VR if len(vr) == 2}
_LONG = {vr.encode() for vr in EXPLICIT_VR_LENGTH_32}
_PIXEL_DATA = 0x7FE00010
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
_UNDEFINED = 0xFFFFFFFF
_MOST_ELEMENTS = 100_000
_MOST_IN_A_ROW = 32
_MOST_ENDS = 64


class _Header(NamedTuple):
    tag: int
    vr: bytes
    place: int


def without_unknown_elements(data: bytes) -> bytes | None:
    """Return a file in explicit little endian without the elements at its top level whose VR does not exist.

    Such an element is of private writers that invent a VR or leave it blank. How long it is depends on what its writer
    meant: a length of 32 bits after two reserved bytes, as every new VR has (PS3.5 7.1.2), one of 16, or the implicit
    form, which has no VR. The one is taken behind which an element begins that may follow.

    Returns
    -------
    bytes or None
        None if there is no such element before the pixel data, or the file ends.

    Raises
    ------
    RadiographError
        CORRUPT if there is such an element, and nothing can follow it.
    """
    start = 132 if data[128:132] == b"DICM" else 0
    kept, header = [data[:start]], _header(data, start)
    for _ in range(_MOST_ELEMENTS):
        if header is None:
            return None
        if header.tag == _PIXEL_DATA:
            return b"".join([*kept, data[header.place :]]) if sum(map(len, kept)) < header.place else None
        following = next(_followers(data, header), None)
        if header.vr not in _KNOWN and following is None:
            raise RadiographError(Reason.CORRUPT, "An element of a kind that does not exist hides what follows it.")
        if header.vr in _KNOWN:
            kept.append(data[header.place : following.place if following else len(data)])
        header = following
    return None


def _header(data: bytes, place: int) -> _Header | None:
    if place + 8 > len(data):
        return None
    group, number = struct.unpack_from("<HH", data, place)
    return _Header(group << 16 | number, data[place + 4 : place + 6], place)


def _followers(data: bytes, header: _Header, unknown: int = 0) -> Iterator[_Header]:
    """Yield the elements that may follow one: their tag is higher, and their VR known, or they can be walked past.

    What follows an element of known VR and length is not in doubt, whatever it is.
    """
    ends = list(_ends(data, header))
    certain = header.vr in _KNOWN and len(ends) == 1
    for end in ends:
        following = _header(data, end)
        if following is None or following.tag <= header.tag:
            continue
        if certain or following.vr in _KNOWN or _leads_on(data, following, unknown + 1):
            yield following


def _leads_on(data: bytes, header: _Header, unknown: int) -> bool:
    """Say whether an element of unknown VR, so many in a row, can be walked past."""
    return unknown <= _MOST_IN_A_ROW and next(_followers(data, header, unknown), None) is not None


def _ends(data: bytes, header: _Header) -> Iterator[int]:
    """Yield where an element may end."""
    short, reserved = int.from_bytes(data[header.place + 6 : header.place + 8], "little"), header.place + 12
    long = int.from_bytes(data[header.place + 8 : reserved], "little")
    if header.vr in _LONG and long == _UNDEFINED:
        yield from _sequence_ends(data, reserved)
    elif header.vr in _LONG or (header.vr not in _KNOWN and short == 0):
        yield reserved + long
    if header.vr not in _LONG:
        yield header.place + 8 + short
    if header.vr not in _KNOWN:
        yield header.place + 8 + int.from_bytes(data[header.place + 4 : header.place + 8], "little")


def _sequence_ends(data: bytes, place: int) -> Iterator[int]:
    """Yield where a sequence of undefined length may end: those inside it have ends of their own."""
    for _ in range(_MOST_ENDS):
        place = data.find(_SEQUENCE_END, place)
        if place < 0:
            return
        place += len(_SEQUENCE_END)
        yield place
