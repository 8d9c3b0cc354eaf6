"""Stored values as at most 65,536 levels: count them once, decide level by level, look every pixel up."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.radiograph.reading import Radiograph

_EXACT_COUNTS = 2**24
"""OpenCV counts in float32."""

_BINS = 4096
_WIDE_TABLES = int(cv2.__version__.split(".")[0]) >= 5
"""Whether cv2.LUT takes 16 bits; NumPy does the same in five times the time."""


def count_levels(stored: NDArray[np.integer], valid: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Return how often every level occurs outside padding: (256,) or (65536,), ordered by the level's bits."""
    bits = _bits(stored)
    number = 2 ** (8 * bits.itemsize)
    if bits.size < _EXACT_COUNTS:
        mask = None if valid is None else np.ascontiguousarray(valid).view(np.uint8)
        return cv2.calcHist([bits], [0], mask, [number], [0, number]).ravel().astype(np.int64)
    return np.bincount(bits.ravel() if valid is None else bits[valid], minlength=number)


def level_values(radiograph: Radiograph) -> NDArray[Any]:
    """Return the value that every level stands for, ordered by the level's bits: after the Modality LUT, if any."""
    stored, pixels = radiograph.stored, radiograph.pixels
    bits = _bits(stored)
    if pixels is stored:
        return stored_levels(stored)
    values = np.zeros(2 ** (8 * bits.itemsize), pixels.dtype)
    values[bits] = pixels  # a Modality LUT gives all pixels of a level the same value
    return values


def stored_levels(stored: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the stored values that an array's type can hold, ordered by their bits: 0..32767, -32768..-1 of int16."""
    bits = _bits(stored)
    return np.arange(2 ** (8 * bits.itemsize), dtype=bits.dtype).view(stored.dtype)


def look_up(stored: NDArray[np.integer], table: NDArray[Any]) -> NDArray[Any]:
    """Return the table's entry for every pixel; the table is ordered by the level's bits."""
    bits = _bits(stored)
    if bits.itemsize == 1 or _WIDE_TABLES:
        return cv2.LUT(bits, table)
    return np.take(table, bits)


def percentiles(values: NDArray[Any], counts: NDArray[np.int64], shares: tuple[float, ...]) -> list[float]:
    """Return for every share the smallest value that at least this share of the pixels does not exceed.

    Exact for integers; for others, the lower edge of one of 4,096 bins between the smallest and the largest value.
    """
    used = counts > 0
    values, counts = values[used], counts[used]
    if values.dtype.kind in "ui":
        order = np.argsort(values)
        return [float(value) for value in values[order][_ranks(counts[order], shares)]]
    finite = values.astype(np.float64)
    if finite.min() == finite.max():
        return [float(finite[0])] * len(shares)
    binned, edges = np.histogram(finite, bins=_BINS, weights=counts)
    return [float(edge) for edge in edges[_ranks(binned, shares)]]


def _bits(stored: NDArray[np.integer]) -> NDArray[np.unsignedinteger[Any]]:
    contiguous = np.ascontiguousarray(stored)
    return contiguous.view(f"u{contiguous.itemsize}")


def _ranks(counts: NDArray[Any], shares: tuple[float, ...]) -> NDArray[np.intp]:
    total = np.cumsum(counts)
    return np.searchsorted(total, [share * total[-1] for share in shares])
