"""Values of tags that may be missing, malformed or multi-valued: the first usable value, or None, never an error."""

from __future__ import annotations

import math
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from cxrgaze_ray.radiograph.pixel_data.bounds import BAD_DATA


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    try:
        value = dataset.get(keyword)
        return list(value) if isinstance(value, MultiValue | list | tuple) else [] if value is None else [value]
    except BAD_DATA:  # the raw bytes do not make a value of the tag's type
        return []


def _first(dataset: Dataset, keyword: str) -> Any:
    return next(iter(_values(dataset, keyword)), None)


def texts(dataset: Dataset, keyword: str) -> list[str]:
    """Return all text values, stripped and in capitals; none if there is none."""
    return [value.strip(" \0\t\r\n").upper() for value in _values(dataset, keyword) if isinstance(value, str)]


def text(dataset: Dataset, keyword: str) -> str | None:
    """Return a text value, stripped; None if there is none."""
    value = _first(dataset, keyword)
    stripped = value.strip(" \0\t\r\n") if isinstance(value, str) else ""
    return stripped or None


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return a finite number; None if there is none."""
    try:
        value = float(_first(dataset, keyword))
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Return all values as numbers; none if one of them is not finite."""
    try:
        values = [float(value) for value in _values(dataset, keyword)]
    except (TypeError, ValueError, OverflowError):
        return []
    return values if all(map(math.isfinite, values)) else []


def integer(dataset: Dataset, keyword: str) -> int | None:
    """Return an integer that fits a signed 32-bit column; None if there is none."""
    value = number(dataset, keyword)
    return int(value) if value is not None and abs(value) < 2**31 else None


def sequence(dataset: Dataset, keyword: str) -> Dataset | None:
    """Return the first item of a sequence; None if there is none."""
    try:
        value = dataset.get(keyword)
    except BAD_DATA:
        return None
    return value[0] if isinstance(value, Sequence) and len(value) else None
