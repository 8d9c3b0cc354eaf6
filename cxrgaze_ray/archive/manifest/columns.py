"""Whole columns at a time: look up, map distinct values, flag what repeats. Nulls match nothing and stay null."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def flat(column: Any) -> pa.Array:
    """Return a column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def nulls(rows: int) -> pa.Array:
    """Return a string column that says nothing."""
    return pa.nulls(rows, pa.string())


def lookup(wanted: Any, known: Any) -> pa.Array:
    """Return for each wanted value the first place where it is known (int32), or null."""
    return flat(pc.index_in(wanted, value_set=flat(known), skip_nulls=True))


def map_distinct(column: Any, function: Callable[[str], str | None]) -> pa.Array:
    """Apply a function to the distinct values of a string column."""
    encoded = flat(column).dictionary_encode()
    values = pa.array([function(text) for text in encoded.dictionary.to_pylist()], pa.string())
    return values.take(encoded.indices)


def first_of_each(column: Any) -> pa.Array:
    """Return the places (int64) of the first row of each value, in order; every null is one of its own."""
    codes = _codes(column)
    absent = codes < 0
    codes[absent] = codes.max(initial=-1) + 1 + np.arange(int(absent.sum()))
    return pa.array(np.sort(np.unique(codes, return_index=True)[1]))


def repeated(column: Any) -> pa.Array:
    """Flag the rows whose value another row has too."""
    codes = _codes(column)
    counts = np.bincount(codes[codes >= 0], minlength=1)
    return pa.array((codes >= 0) & (counts[codes] > 1))


def _codes(column: Any) -> Any:
    indices = flat(column).dictionary_encode().indices
    return np.array(pc.fill_null(indices, -1), dtype=np.int64)
