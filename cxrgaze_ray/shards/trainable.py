"""What training asks of a shard store, or of several seen as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from cxrgaze_ray.shards.store import Shard, StoreInfo


class Trainable(Protocol):
    """Images to learn from, and to be tested on: a `ShardStore` or a `ShardUnion`."""

    info: StoreInfo

    @property
    def parts(self) -> tuple[str, ...]:
        """Hashes of the stores that this is, in order."""

    def rows(self, split: str) -> int:
        """Return how many images a split has."""

    def shards(self, split: str) -> tuple[Shard, ...]:
        """Return the shards where rows of a split may lie, in order."""

    def tables(self, split: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of a split (`schemas.STORE_SHARD`), all columns or some."""
