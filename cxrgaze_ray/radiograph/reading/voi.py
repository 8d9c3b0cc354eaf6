"""VOI: how the file wants its values shown; a look-up table, or a window (PS3.3 C.11.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cxrgaze_ray.radiograph.pixel_data.bounds import BAD_DATA
from cxrgaze_ray.radiograph.pixel_data.tags import number, sequence, text

_NARROWEST = {"LINEAR": 1.0, "LINEAR_EXACT": 0.0, "SIGMOID": 0.0}
_LONGEST_TABLE = 65536


@dataclass(frozen=True)
class Window:
    """A window: center and width in the values' units, and one of three functions (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""

    center: float
    width: float
    function: str = "LINEAR"

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Map values after the Modality LUT to [0,1], float32 of the same shape; polarity comes later."""
        floats = values.astype(np.float32)
        if self.function == "SIGMOID":
            return self._sigmoid(floats)
        linear = self.function == "LINEAR"
        center, width = (self.center - 0.5, self.width - 1) if linear else (self.center, self.width)
        if width <= 0:
            return (values > center).astype(np.float32)
        floats = (floats - np.float32(center)) / np.float32(width) + np.float32(0.5)
        np.clip(floats, 0, 1, out=floats)
        return floats

    def _sigmoid(self, floats: NDArray[np.float32]) -> NDArray[np.float32]:
        steps = np.clip((floats - np.float32(self.center)) * np.float32(-4 / self.width), -80, 80)
        shown: NDArray[np.float32] = 1 / (1 + np.exp(steps))
        return shown


@dataclass(frozen=True, eq=False)
class LookUpTable:
    """A VOI LUT: values from `first` on are looked up, those beyond an end take that end's entry (PS3.3 C.11.2.1.1).

    Attributes
    ----------
    first
        Value that the first entry stands for, as written: two's complement where values may be negative.
    table
        float32 (entries,) in [0,1].
    """

    first: int
    table: NDArray[np.float32]

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Map values after the Modality LUT to [0,1], float32 of the same shape; polarity comes later."""
        first = self.first
        if first >= 2**15 and values.dtype.kind != "u" and values.min(initial=0) < 0:
            first -= 2**16
        top = len(self.table) - 1
        places = np.clip(np.rint(values.astype(np.float32)), first, first + top) - first
        return self.table[places.astype(np.int32)]


Voi = Window | LookUpTable


def read_voi(dataset: Dataset, *, little_endian: bool = True) -> Voi | None:
    """Read the first VOI LUT, else the first window; None if there is none that can be used.

    A width under 1 (LINEAR) or not above 0, a centre without a width and a function that the standard does not have
    are no window.
    """
    item = sequence(dataset, "VOILUTSequence")
    table = None if item is None else _read_table(item, "<u2" if little_endian else ">u2")
    return table if table is not None else _read_window(dataset)


def _read_window(dataset: Dataset) -> Window | None:
    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    function = (text(dataset, "VOILUTFunction") or "LINEAR").upper()
    narrowest = _NARROWEST.get(function)
    if center is None or width is None or narrowest is None or width <= 0 or width < narrowest:
        return None
    if max(abs(center), width) > np.finfo(np.float32).max or 4 / width > np.finfo(np.float32).max:
        return None
    return Window(center, width, function)


def _read_table(item: Dataset, order: str) -> LookUpTable | None:
    """Read LUTDescriptor (entries, first value, bits) and LUTData, which is 8 bit only where its length says so."""
    try:
        entries, first, bits = (int(value) for value in item.LUTDescriptor)
        data = item.LUTData
        count = entries % _LONGEST_TABLE or _LONGEST_TABLE
        if isinstance(data, bytes):
            data = np.frombuffer(data, np.uint8 if len(data) < 2 * count else order)
        values = np.atleast_1d(np.asarray(data, np.float32))[:count]
    except BAD_DATA:
        return None
    if not 8 <= bits <= 16 or values.size < count or not values.any():
        return None
    return LookUpTable(first, np.minimum(values / np.float32(2**bits - 1), np.float32(1)))
