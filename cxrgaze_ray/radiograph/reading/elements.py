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
_MOST_ENDS = 64
_MOST_UNKNOWN = 256
"""Elements of unknown VR that are looked at: a hostile file must not make a tree of them."""


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
    walk, start = _Walk(data), 132 if data[128:132] == b"DICM" else 0
    kept, header = [data[:start]], walk.header(start)
    for _ in range(_MOST_ELEMENTS):
        if header is None:
            return None
        if header.tag == _PIXEL_DATA:
            return b"".join([*kept, data[header.place :]]) if sum(map(len, kept)) < header.place else None
        following = walk.following(header)
        if header.vr not in _KNOWN and following is None:
            raise RadiographError(Reason.CORRUPT, "An element of a kind that does not exist hides what follows it.")
        if header.vr in _KNOWN:
            kept.append(data[header.place : following.place if following else len(data)])
        header = following
    return None


class _Walk:
    """Steps from element to element, and remembers which of unknown VR lead nowhere."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._leads_on: dict[int, bool] = {}

    def header(self, place: int) -> _Header | None:
        """Return the head of the element at a place; None if the file ends there."""
        if place + 8 > len(self._data):
            return None
        group, number = struct.unpack_from("<HH", self._data, place)
        return _Header(group << 16 | number, self._data[place + 4 : place + 6], place)

    def following(self, header: _Header) -> _Header | None:
        """Return the element that follows one: its tag is higher, and its VR known, or it leads on itself.

        What follows an element of known VR and length is not in doubt, whatever it is.
        """
        ends = list(self._ends(header))
        certain = header.vr in _KNOWN and len(ends) == 1
        for end in ends:
            following = self.header(end)
            if following is None or following.tag <= header.tag:
                continue
            if certain or following.vr in _KNOWN or self._can_be_passed(following):
                return following
        return None

    def _can_be_passed(self, header: _Header) -> bool:
        if header.place not in self._leads_on and len(self._leads_on) < _MOST_UNKNOWN:
            self._leads_on[header.place] = False  # counted before those behind it are
            self._leads_on[header.place] = self.following(header) is not None
        return self._leads_on.get(header.place, False)

    def _ends(self, header: _Header) -> Iterator[int]:
        """Yield where an element may end."""
        short, value = self._number(header.place + 6, 2), header.place + 12
        long = self._number(header.place + 8, 4)
        if header.vr in _LONG and long == _UNDEFINED:
            yield from self._sequence_ends(value)
        elif header.vr in _LONG or (header.vr not in _KNOWN and short == 0):
            yield value + long
        if header.vr not in _LONG:
            yield header.place + 8 + short
        if header.vr not in _KNOWN:
            yield header.place + 8 + self._number(header.place + 4, 4)

    def _sequence_ends(self, place: int) -> Iterator[int]:
        """Yield where a sequence of undefined length may end: those inside it have ends of their own."""
        for _ in range(_MOST_ENDS):
            place = self._data.find(_SEQUENCE_END, place)
            if place < 0:
                return
            place += len(_SEQUENCE_END)
            yield place

    def _number(self, place: int, size: int) -> int:
        return int.from_bytes(self._data[place : place + size], "little")
