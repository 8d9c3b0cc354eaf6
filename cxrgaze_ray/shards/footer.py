"""What a shard's footer tells of its rows: ids, splits and labels, without a page of data."""

from __future__ import annotations

import base64

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cxrgaze_ray.schemas.ipc import table_from_ipc, table_to_ipc

_KEY = b"cxrgaze.index"
INDEXED = ["image_id", "subject_id", "split", "label", "gaze_peak"]
"""Columns of a shard that its index is made of."""

ROW_INDEX = pa.schema(
    [
        ("image_id", pa.string()),
        ("subject_id", pa.string()),
        ("split", pa.string()),
        ("label", pa.int8()),
        ("seen", pa.bool_()),
    ]
)
"""A row an image of a shard, in order. seen: it has a gaze map that is not zero everywhere."""


def footer_of(rows: pa.Table) -> dict[bytes, bytes]:
    """Return what a shard's footer keeps of its rows (`schemas.STORE_SHARD`), as text for other readers' sake."""
    return {_KEY: base64.b64encode(table_to_ipc(_small(rows)))}


def read_row_index(parquet: pq.ParquetFile) -> pa.Table:
    """Return a shard's `ROW_INDEX`; from the columns where an earlier version wrote none."""
    kept = (parquet.metadata.metadata or {}).get(_KEY)
    return table_from_ipc(pa.py_buffer(base64.b64decode(kept))) if kept else _small(parquet.read(INDEXED))


def groups_of(parquet: pq.ParquetFile, wanted_N: pa.ChunkedArray) -> list[int]:
    """Return the row groups that hold wanted rows, given whether each is."""
    groups, first = [], 0
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        if pc.any(wanted_N.slice(first, rows)).as_py():
            groups.append(group)
        first += rows
    return groups


def _small(rows: pa.Table) -> pa.Table:
    seen = pc.fill_null(pc.greater(rows["gaze_peak"], 0), False)
    columns = [*(rows[name] for name in ROW_INDEX.names if name != "seen"), seen]
    return pa.table(columns, schema=ROW_INDEX).combine_chunks()
