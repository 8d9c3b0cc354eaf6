"""How a store holds what readers looked at: maps in 16 bits, looks as records on the model image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.gaze.heatmap import LOOK, ReadImage
from cxrgaze_ray.schemas import HEIGHT, WIDTH

GAZE_COLUMNS = ("gaze", "readers")
"""Columns of a store that `Seen.of` reads."""


@dataclass(frozen=True)
class Reader:
    """One reader's looks as `LOOK`, and map; None where the image has one reader only, whose map is the image's."""

    looks: NDArray[np.void]
    density_HW: NDArray[np.float32] | None


@dataclass(frozen=True)
class Seen:
    """What the readers of an image looked at.

    Attributes
    ----------
    density_HW
        float32 (640, 512), summing to 1.
    readers
        Empty in stores of before readers were kept apart.
    """

    density_HW: NDArray[np.float32]
    readers: tuple[Reader, ...]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Seen | None:
        """Return what a store's row holds; None if nobody looked."""
        if row["gaze"] is None:
            return None
        return cls(gaze_density(row["gaze"]), tuple(_reader(one) for one in row["readers"] or ()))

    @property
    def looks(self) -> NDArray[np.void] | None:
        """Looks of all readers, each reader weighing the same; None where they were not kept."""
        return pool_looks([reader.looks for reader in self.readers]) if self.readers else None


def pool_looks(readers: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    """Return the looks of all readers; those of each weigh 1 together, as its map does in the mean map."""
    pooled = np.concatenate([np.empty(0, LOOK), *readers])
    totals = [np.full(len(looks), looks["weight"].sum(dtype=np.float64)) for looks in readers]
    pooled["weight"] /= np.concatenate([np.empty(0), *totals])
    return pooled


def stored_looks(readers: Sequence[Mapping[str, Any]] | None) -> NDArray[np.void] | None:
    """Return `Seen.looks` of a store's column `readers` alone."""
    return pool_looks([np.frombuffer(one["looks"], LOOK) for one in readers]) if readers else None


def pack_readings(read: ReadImage) -> dict[str, Any]:
    """Return the gaze columns of an image: its map, its peak, and its readers."""
    maps = [pack_gaze(density)["gaze"] for density in read.densities] or [None] * len(read.looks)
    readers = [{"looks": looks.tobytes(), "gaze": gaze} for looks, gaze in zip(read.looks, maps, strict=True)]
    return pack_gaze(read.density_HW) | {"readers": readers}


def pack_gaze(density: NDArray[np.float32]) -> dict[str, Any]:
    """Return the columns of a density: uint16 scaled to its peak, and the peak."""
    peak = float(density.max())
    return {"gaze": np.rint(density / peak * 65535).astype("<u2").tobytes(), "gaze_peak": peak}


def gaze_density(gaze: bytes) -> NDArray[np.float32]:
    """Return a stored gaze map as a density: float32 (640, 512), summing to 1; zero if nothing was looked at."""
    stored = np.frombuffer(gaze, np.uint16).reshape(HEIGHT, WIDTH).astype(np.float32)
    density: NDArray[np.float32] = stored / (stored.sum(dtype=np.float64) or 1.0)
    return density.astype(np.float32)


def _reader(packed: Mapping[str, Any]) -> Reader:
    density = None if packed["gaze"] is None else gaze_density(packed["gaze"])
    return Reader(np.frombuffer(packed["looks"], LOOK), density)
