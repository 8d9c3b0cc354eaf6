"""The file of a shard, as today's version writes it."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from cxrgaze_ray.schemas import STORE_SHARD
from cxrgaze_ray.shards.footer import INDEXED, footer_of

_WHOLE = {"image", "gaze", "readers"}
"""Columns without a dictionary: no two values are the same."""


class ShardWriter:
    """Writes rows (`schemas.STORE_SHARD`) as Parquet, a row group a row, and in the footer what is small of them all.

    A training reads rows in any order, and of each nothing else.
    """

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        plain = [name for name in STORE_SHARD.names if name not in _WHOLE]
        self._writer = pq.ParquetWriter(self._buffer, STORE_SHARD, compression="zstd", use_dictionary=plain)
        self._small = [STORE_SHARD.empty_table().select(INDEXED)]

    def add(self, rows: pa.Table) -> None:
        """Write rows after those that are there."""
        self._writer.write_table(rows, row_group_size=1)
        self._small.append(rows.select(INDEXED))

    def finish(self) -> bytes:
        """Return the whole file."""
        self._writer.add_key_value_metadata(footer_of(pa.concat_tables(self._small)))
        self._writer.close()
        return self._buffer.getvalue()
