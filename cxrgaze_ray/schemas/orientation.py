"""How a stored picture is turned to stand upright: the eight orientations of Exif (CIPA DC-008, tag 0112H)."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

UPRIGHT = 1
"""The orientation of a picture that is stored as it is shown."""


class _Turn(NamedTuple):
    """Steps from stored to upright, in this order."""

    swap: bool
    flip_y: bool
    flip_x: bool


_TURNS = {
    1: _Turn(False, False, False),
    2: _Turn(False, False, True),
    3: _Turn(False, True, True),
    4: _Turn(False, True, False),
    5: _Turn(True, False, False),
    6: _Turn(True, False, True),
    7: _Turn(True, True, True),
    8: _Turn(True, True, False),
}

ORIENTATIONS = tuple(_TURNS)
"""Every orientation there is."""


def upright_size(orientation: int, rows: int, columns: int) -> tuple[int, int]:
    """Return rows and columns of the upright picture; given the upright ones, those of the stored picture."""
    return (columns, rows) if _TURNS[orientation].swap else (rows, columns)


def turn(stored: NDArray[Scalar], orientation: int) -> NDArray[Scalar]:
    """Return a stored picture (rows, columns, ...) as it stands upright: a view of the same type."""
    swap, flip_y, flip_x = _TURNS[orientation]
    return _flipped(stored.swapaxes(0, 1) if swap else stored, flip_y, flip_x)


def turn_back(upright: NDArray[Scalar], orientation: int) -> NDArray[Scalar]:
    """Return an upright picture as it is stored: a view of the same type."""
    swap, flip_y, flip_x = _TURNS[orientation]
    flipped = _flipped(upright, flip_y, flip_x)
    return flipped.swapaxes(0, 1) if swap else flipped


def turn_point(y: float, x: float, orientation: int, rows: int, columns: int) -> tuple[float, float]:
    """Return where a point of a stored picture of `rows` and `columns` lies upright; pixel centres are at +0.5."""
    swap, flip_y, flip_x = _TURNS[orientation]
    if swap:
        y, x, rows, columns = x, y, columns, rows
    return rows - y if flip_y else y, columns - x if flip_x else x


def turn_point_back(y: float, x: float, orientation: int, rows: int, columns: int) -> tuple[float, float]:
    """Return where a point of the upright picture lies in the stored one, whose `rows` and `columns` are given."""
    swap, flip_y, flip_x = _TURNS[orientation]
    high, wide = upright_size(orientation, rows, columns)
    y, x = high - y if flip_y else y, wide - x if flip_x else x
    return (x, y) if swap else (y, x)


def _flipped(picture: NDArray[Scalar], flip_y: bool, flip_x: bool) -> NDArray[Scalar]:
    return picture[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
