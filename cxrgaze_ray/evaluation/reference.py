"""What the maps of a store's split are measured beside: one pass over its training split, and one over its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.maps import Looks, Negatives, Reference
from cxrgaze_ray.gaze.packed import gaze_density, stored_looks
from cxrgaze_ray.schemas import HEIGHT, WIDTH


class Splits(Protocol):
    """Images with known splits, of which some columns can be read: a `ShardStore`, or several seen as one."""

    def tables(self, split: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of a split (`schemas.STORE_SHARD`), all columns or some."""


def reference_of(store: Splits, split: str) -> Reference:
    """Read the training split's mean gaze map, and where readers of a split looked, a shard in memory at a time."""
    return Reference(mean_gaze(store, "train"), Negatives(_looked_at(store, split)))


def mean_gaze(store: Splits, split: str) -> NDArray[np.float32] | None:
    """Return the mean of a split's gaze maps, each a density; None if nobody looked at an image of it."""
    total, count = np.zeros((HEIGHT, WIDTH), np.float64), 0
    for table in store.tables(split, ["gaze"]):
        for gaze in table["gaze"].drop_null():
            total += gaze_density(gaze.as_py())
            count += 1
    return (total / count).astype(np.float32) if count else None


def _looked_at(store: Splits, split: str) -> Iterator[tuple[str, str, Looks]]:
    for table in store.tables(split, ["image_id", "subject_id", "readers"]):
        names = zip(table["image_id"].to_pylist(), table["subject_id"].to_pylist(), strict=True)
        for (image_id, patient), readers in zip(names, table["readers"], strict=True):
            if (looks := stored_looks(readers.as_py())) is not None:
                yield image_id, patient or image_id, looks
