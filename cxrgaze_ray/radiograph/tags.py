"""Values of tags that may be missing, malformed or multi-valued: the first usable value, or None, never an error."""

from __future__ import annotations

import math
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from cxrgaze_ray.radiograph.bounds import BAD_DATA


def _first(dataset: Dataset, keyword: str) -> Any:
    try:
        value = dataset.get(keyword)
        if isinstance(value, MultiValue | list | tuple):
            value = value[0] if len(value) else None
    except BAD_DATA:  # the raw bytes do not make a value of the tag's type
        return None
    return value


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
