"""The images of a split as a feed sees them: what is known of all of them at once, and pixels one image at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cxrgaze_ray.schemas import HEIGHT, WIDTH
from cxrgaze_ray.training.recipes import Stage

Pixels = tuple[NDArray[np.uint16], NDArray[np.uint16] | None]
"""An image and its gaze map, uint16 (640, 512); the map is None where nobody looked, or it was not asked for."""


class Rows(Protocol):
    """Images of one split.

    Attributes
    ----------
    image_ids
        Ids as Arrow strings, sorted.
    label_N
        int8 (N,): index into CLASSES, or -1.
    seen_N
        bool (N,): whether the image has a gaze map that can be learned from.
    """

    image_ids: pa.Array
    label_N: NDArray[np.int8]
    seen_N: NDArray[np.bool_]

    def read(self, place: int, *, gaze: bool) -> Pixels:
        """Return the pixels of the image at a place among the ids; called from many threads at once."""


def usable(rows: Rows, stage: Stage) -> NDArray[np.bool_]:
    """Return bool (N,): whether a row has what a phase learns from."""
    usable_N: NDArray[np.bool_] = np.ones(len(rows.label_N), bool)
    if stage.needs_label:
        usable_N &= rows.label_N >= 0
    if stage.needs_gaze:
        usable_N &= rows.seen_N
    return usable_N


class ChosenRows:
    """Some of a split's images, as if there were no others.

    Parameters
    ----------
    rows
        All of them.
    place_N
        Places of those that are chosen, rising.
    """

    def __init__(self, rows: Rows, place_N: NDArray[np.int64]) -> None:
        self._rows, self._place_N = rows, place_N
        self.image_ids = rows.image_ids.take(pa.array(place_N))
        self.label_N, self.seen_N = rows.label_N[place_N], rows.seen_N[place_N]

    def read(self, place: int, *, gaze: bool) -> Pixels:
        """Return the pixels of the image at a place among the chosen ids."""
        return self._rows.read(int(self._place_N[place]), gaze=gaze)


@dataclass(frozen=True)
class StoredRow:
    """A stored row as it is held in memory: 0.65 MB of image, and as much of gaze if there is any."""

    image_id: str
    label: int | None
    image: bytes
    gaze: bytes | None


class HeldRows:
    """Images that this process holds: for generated ones, and as many as fit."""

    def __init__(self, rows: Iterable[StoredRow]) -> None:
        self._rows = sorted(rows, key=lambda row: row.image_id)
        self.image_ids = pa.array([row.image_id for row in self._rows], pa.string())
        self.label_N = np.array([-1 if row.label is None else row.label for row in self._rows], np.int8)
        # a map of zeros, for which no loss is defined, counts as none
        seen = [row.gaze is not None and _map(row.gaze).any() for row in self._rows]
        self.seen_N = np.array(seen, bool)

    def read(self, place: int, *, gaze: bool) -> Pixels:
        """Return the pixels of the image at a place among the ids."""
        row = self._rows[place]
        seen = gaze and row.gaze is not None
        return _map(row.image), _map(row.gaze) if seen and row.gaze is not None else None


def _map(data: bytes) -> NDArray[np.uint16]:
    return np.frombuffer(data, np.uint16).reshape(HEIGHT, WIDTH)
