"""Palettes: indices to red, green and blue (PS3.3 C.7.6.3.1.5 and C.7.6.3.1.6)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.pixel_data.bounds import BAD_DATA, decoder_errors
from cxrgaze_ray.schemas import Reason

_CHANNELS = ("Red", "Green", "Blue")
_LONGEST = 65536
_SHORT = 256


def apply_palette(indices: NDArray[np.integer], dataset: Dataset, *, little_endian: bool) -> NDArray[Any]:
    """Look the colours of a picture up.

    pydicom does it for segmented tables. Plain ones are read here: it looks long tables of 8 bits up with an index of 8
    bits, and takes those of big endian files for little endian.

    Parameters
    ----------
    indices
        (rows, columns) of any integers; those beyond an end of the table take that end's colour.
    dataset
        With the palette's tables.
    little_endian
        The file's byte order.

    Returns
    -------
    NDArray
        uint8 or uint16 (rows, columns, 3).

    Raises
    ------
    RadiographError
        CORRUPT if there is no palette, or none that holds together.
    """
    if "RedPaletteColorLookupTableData" not in dataset:
        with decoder_errors():
            bits, entries = int(dataset.RedPaletteColorLookupTableDescriptor[2]), _entries(dataset, "Red")[0]
            if bits == 8 and entries > _SHORT:
                raise RadiographError(Reason.CORRUPT, "The palette is longer than its entries allow.")
            return np.asarray(apply_color_lut(indices, dataset))[..., :3]
    return np.stack([_look_up(indices, dataset, channel, little_endian) for channel in _CHANNELS], axis=2)


def _look_up(indices: NDArray[np.integer], dataset: Dataset, channel: str, little_endian: bool) -> NDArray[Any]:
    try:
        entries, first = _entries(dataset, channel)
        data = bytes(dataset[f"{channel}PaletteColorLookupTableData"].value)
    except BAD_DATA:
        raise RadiographError(Reason.CORRUPT, "The palette can't be read.") from None
    if not little_endian and len(data) % 2 == 0:  # entries lie in words, those of 8 bits in pairs
        data = np.frombuffer(data, ">u2").astype("<u2").tobytes()
    if not entries <= len(data):
        raise RadiographError(Reason.CORRUPT, "The palette is shorter than it says.")
    table = np.frombuffer(data, "<u2" if len(data) >= 2 * entries else np.uint8)[:entries]
    return table[np.clip(indices.astype(np.int32) - first, 0, entries - 1)]


def _entries(dataset: Dataset, channel: str) -> tuple[int, int]:
    """Return how many entries a table has, and the index that the first one stands for."""
    entries, first, _ = (int(value) for value in dataset[f"{channel}PaletteColorLookupTableDescriptor"].value)
    return entries % _LONGEST or _LONGEST, first
