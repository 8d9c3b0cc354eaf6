"""Columns of a Parquet table as text, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from cxrgaze_ray.archive.tables.header import choose, no_rows
from cxrgaze_ray.archive.tables.text import Limits
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.storage import Store

_PARQUET_BYTES = 2**29
_BATCH_ROWS = 2**16


def read_parquet(store: Store, name: str, wanted: tuple[str, ...], limits: Limits) -> Iterator[pa.RecordBatch]:
    """Yield the wanted columns in batches, one without rows first, until the limits are passed."""
    file = open_parquet(store, name, limits)
    chosen = choose(file.schema_arrow.names, wanted, name)
    yield no_rows(chosen.values())
    size = 0
    try:
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(chosen)):
            size += batch.nbytes
            if size > limits.table_bytes:
                raise UserError(f"{name} unpacks to more than {limits.table_bytes} bytes.", "Split it.")
            columns = [batch[column].cast(pa.string()) for column in chosen]
            yield pa.RecordBatch.from_arrays(columns, list(chosen.values()))
    except (pa.ArrowException, OSError, ValueError):
        raise UserError(f"{name} has columns that are no text.", "Write them as strings.") from None


def open_parquet(store: Store, name: str, limits: Limits) -> pq.ParquetFile:
    """Open a Parquet file whose own account of itself is within the limits."""
    info = store.info(name)
    if info is not None and info.size_bytes > _PARQUET_BYTES:
        raise UserError(f"{name} has more than {_PARQUET_BYTES // 2**20} MiB.", "Split it.")
    data = store.get(name)
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
    except (pa.ArrowException, OSError, ValueError):
        raise UserError(f"{name} is no sound Parquet file.", "Write it again.") from None
    if file.metadata.num_rows > limits.table_rows:
        raise UserError(f"{name} has more than {limits.table_rows} rows.", "Split it.")
    return file
