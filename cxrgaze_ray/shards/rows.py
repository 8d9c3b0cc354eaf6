"""The rows of a store read one at a time, in any order and from many threads, in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import IO, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cxrgaze_ray.errors import StoreNotFound
from cxrgaze_ray.schemas import HEIGHT, WIDTH
from cxrgaze_ray.shards.index import StoreIndex
from cxrgaze_ray.shards.intact import intact
from cxrgaze_ray.storage import ObjectInfo, open_store

CACHE_BYTES = 256 * 2**20
"""Pixels that stay in memory: small stores are decompressed once, and a row group of an earlier version, which holds 16
rows, is not read again for its next row if that is soon."""

FOOTER_BYTES = 128 * 2**20
"""Compressed footers that stay in memory, 23 KB each: without one, a row of a bucket costs three requests instead of
one."""

PARSED = 32
"""Parsed footers that stay in memory, 2 MB each."""

_TAIL_BYTES = 256 * 2**10
"""Bytes at a shard's end that are requested at once: its footer of 64 rows, mostly."""

Value = TypeVar("Value")


class StoreRows:
    """The images of one split of a store; see `training.rows.Rows`.

    Parameters
    ----------
    index
        Index of the store.
    split
        The split.
    reader
        Reads pixels; one for both splits, so that what it keeps is bounded for both together.
    """

    def __init__(self, index: StoreIndex, split: str, reader: ShardReader) -> None:
        rows = index.rows[split]
        self.image_ids = rows["image_id"].combine_chunks()
        self.label_N = pc.fill_null(rows["label"], -1).to_numpy()
        self.seen_N = rows["seen"].to_numpy()
        self._shard_N, self._row_N = rows["shard"].to_numpy(), rows["row"].to_numpy()
        self._shards, self._reader = index.shards, reader

    def read(self, place: int, *, gaze: bool) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None]:
        """Return the image and, if it is asked for and there, its gaze map: uint16 (640, 512)."""
        store, name = self._shards[self._shard_N[place]]
        pixels = self._reader.read(store, name, int(self._row_N[place]))
        image, seen = pixels["image"][0], pixels["gaze"][0]
        return _map(image), _map(seen) if gaze and seen.is_valid else None


class ShardReader:
    """Reads single rows of shards: of each the row group that it lies in, which in today's stores is the row alone.

    Parameters
    ----------
    cache_bytes
        Most bytes of pixels to keep.
    """

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        self._known: _Recent[_Known] = _Recent(FOOTER_BYTES, lambda known: len(known.packed))
        self._footers: _Recent[pq.FileMetaData] = _Recent(PARSED, lambda _: 1)
        self._groups: _Recent[pa.Table] = _Recent(cache_bytes, lambda table: table.nbytes)

    def read(self, store: str, name: str, row: int) -> pa.Table:
        """Return columns image and gaze of one row of a shard.

        Raises
        ------
        EnvironmentFault
            If the store can't be reached within the budget of retries, or the shard is gone or damaged.
        """
        with intact(name):
            return self._read(store, name, row)

    def _read(self, store: str, name: str, row: int) -> pa.Table:
        known = self._known.get((store, name), lambda: _Known.of(store, name))
        footer = self._footers.get((store, name), known.footer)
        group, first = _group_of(footer, row)
        table = self._groups.get((store, name, group), lambda: _read(store, known.info, footer, group))
        return table.slice(row - first, 1)


@dataclass(frozen=True)
class _Known:
    """A shard file as it was found, and its footer, compressed and with its length before."""

    info: ObjectInfo
    packed: bytes

    @classmethod
    def of(cls, uri: str, name: str) -> _Known:
        store = open_store(uri)
        info = store.info(name)
        if info is None:
            raise StoreNotFound(f"There is no file {store.locate(name)}.")
        with store.open_input(name, info) as file:
            tail = _last(file, info.size_bytes, _TAIL_BYTES)
            needed = int.from_bytes(tail[-8:-4], "little") + 8  # Parquet: the footer, its length, PAR1
            tail = _last(file, info.size_bytes, needed) if needed > len(tail) else tail[-needed:]
        return cls(info, len(tail).to_bytes(4, "little") + pa.compress(tail, codec="zstd", asbytes=True))

    def footer(self) -> pq.FileMetaData:
        size = int.from_bytes(self.packed[:4], "little")
        return pq.read_metadata(pa.BufferReader(pa.decompress(self.packed[4:], size, codec="zstd")))


def _last(file: IO[bytes], size: int, count: int) -> bytes:
    file.seek(max(size - count, 0))
    return file.read(count)


def _group_of(footer: pq.FileMetaData, row: int) -> tuple[int, int]:
    """Return the row group that a row lies in, and the number of its first row."""
    if footer.num_row_groups == footer.num_rows:
        return row, row
    first = 0
    for group in range(footer.num_row_groups):
        rows = footer.row_group(group).num_rows
        if row < first + rows:
            return group, first
        first += rows
    raise IndexError(f"The shard has {footer.num_rows} rows.")


def _read(store: str, info: ObjectInfo, footer: pq.FileMetaData, group: int) -> pa.Table:
    with open_store(store).open_input(info.key, info) as file:
        # image and gaze lie side by side: pre_buffer makes one request of them
        parquet = pq.ParquetFile(file, metadata=footer, pre_buffer=True)
        return parquet.read_row_group(group, columns=["image", "gaze"], use_threads=False)


def _map(value: pa.BinaryScalar) -> NDArray[np.uint16]:
    return np.frombuffer(value.as_buffer(), np.uint16).reshape(HEIGHT, WIDTH)


class _Recent(Generic[Value]):
    """Values that were used last, up to a size in all; safe for threads, which may both make a value that is new."""

    def __init__(self, most: int, size_of: Callable[[Value], int]) -> None:
        self._most, self._size_of = most, size_of
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._size += self._size_of(value)
            while self._size > self._most:
                self._size -= self._size_of(self._values.popitem(last=False)[1])
        return value
