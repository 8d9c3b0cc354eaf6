"""What is small of every row, and where its pixels lie: all that a training has to know before its first step.

A shard keeps its rows' ids, splits and labels in its footer, so that an index is read without a page of data. Ray Data
reads those of a whole store, a group of shards a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data
from ray.data import DataContext

from cxrgaze_ray.cluster.connection import on_cluster, translated
from cxrgaze_ray.cluster.ray_data import job_context
from cxrgaze_ray.errors import StoreUnavailable
from cxrgaze_ray.shards.footer import ROW_INDEX, read_row_index
from cxrgaze_ray.shards.intact import intact
from cxrgaze_ray.shards.store import Shard, without
from cxrgaze_ray.shards.trainable import Trainable
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.storage.read_ahead import read_ahead

_GROUP = 64
"""Shards whose footers one task reads."""

_ORDER = [(name, "ascending") for name in ("image_id", "shard", "row")]
_NUMBER = "number"

_PLACED = pa.schema([*ROW_INDEX, ("shard", pa.int32()), ("row", pa.int32())])


@dataclass(frozen=True)
class StoreIndex:
    """Rows of some splits of a store.

    Attributes
    ----------
    shards
        URI of the store and key of each shard.
    rows
        By split, sorted by image id: `ROW_INDEX`, and the row's place: shard, an index into `shards`, and row in it.
    """

    shards: tuple[tuple[str, str], ...]
    rows: dict[str, pa.Table]


def index_store(store: Trainable, splits: Sequence[str]) -> StoreIndex:
    """Read the index of a store, or of several seen as one: on the cluster that this process is on, else here.

    Raises
    ------
    EnvironmentFault
        If a store can't be reached, or a shard is gone, damaged or not the one that was counted.
    """
    shards = list({(shard.store, shard.name): shard for split in splits for shard in store.shards(split)}.values())
    tables = _spread(shards) if on_cluster() else _here(shards)
    every = pa.concat_tables([_PLACED.empty_table(), *tables])
    rows = {split: every.filter(pc.equal(every["split"], split)).sort_by(_ORDER) for split in splits}
    for split in splits:
        if (found := rows[split].num_rows) != (counted := store.rows(split)):
            raise StoreUnavailable(
                f"The shards of the store hold {found} images of the {split} split, of which it counted {counted}.",
                "Restore its files, or ingest the archive into another store.",
            )
    places = tuple((shard.store, shard.name) for shard in shards)
    return StoreIndex(places, {split: table.combine_chunks() for split, table in rows.items()})


def _here(shards: Sequence[Shard]) -> Iterator[pa.Table]:
    return read_ahead(lambda number: _placed(number, shards[number]), range(len(shards)))


def _spread(shards: Sequence[Shard]) -> Iterator[pa.Table]:
    """Yield the indexes of all shards, a group of them from each task of Ray Data."""
    groups = [range(first, min(first + _GROUP, len(shards))) for first in range(0, len(shards), _GROUP)]
    if not groups:
        return
    with DataContext.current(job_context()):
        dataset = ray.data.from_arrow([pa.table({_NUMBER: list(group)}) for group in groups]).map_batches(
            partial(_read_group, shards=shards), batch_size=None, batch_format="pyarrow", num_cpus=1
        )
    with translated():
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            assert isinstance(batch, pa.Table)
            yield batch


def _read_group(numbers: pa.Table, shards: Sequence[Shard]) -> pa.Table:
    wanted = numbers[_NUMBER].to_pylist()
    return pa.concat_tables(list(read_ahead(lambda number: _placed(number, shards[number]), wanted)))


def _placed(number: int, shard: Shard) -> pa.Table:
    with intact(shard.name), open_store(shard.store).open_input(shard.name) as file:
        rows = read_row_index(pq.ParquetFile(file))
    places = [pa.array([number] * rows.num_rows, pa.int32()), pa.array(range(rows.num_rows), pa.int32())]
    table = pa.table([*rows.columns, *places], schema=_PLACED)
    return without(table, shard.superseded)
