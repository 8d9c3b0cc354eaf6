"""Text to numbers, as spreadsheets and programs write them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_NOTHING = pa.array(["NA", "N/A", "n/a", "#N/A", "#NA", "NULL", "null", "NaN", "nan", "-NaN", "-nan"])
"""What programs write where they have no value."""


class NoNumber(ValueError):
    """A text is no number: `place` says which."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


def as_numbers(column: pa.ChunkedArray | pa.Array, *, decimal_comma: bool = False) -> NDArray[np.float64]:
    """Return texts as numbers, NaN where there is none.

    Parameters
    ----------
    decimal_comma
        A comma may stand for the decimal point. In a column that has one, a point is no part of a number: it would
        part thousands as likely as decimals.

    Raises
    ------
    NoNumber
        If a text is none.
    """
    text = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    text = pc.if_else(pc.is_in(text, value_set=_NOTHING), None, text)
    if decimal_comma and pc.any(pc.match_substring(text, ",")).as_py():
        text = pc.replace_substring(pc.replace_substring(text, ".", "?"), ",", ".")
    try:
        values = pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        raise NoNumber(_first_without(text)) from None
    numbers: NDArray[np.float64] = pc.fill_null(values, float("nan")).to_numpy(zero_copy_only=False)
    return numbers


def _first_without(text: pa.Array) -> int:
    """Return the place of the first text that is no number, of texts of which one is."""
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pc.cast(text.slice(low, middle - low), pa.float64())
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low
