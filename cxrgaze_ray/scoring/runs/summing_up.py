"""A run's shards, one after the other, into its summary, its studies and its counts.

A whole archive's rows are never in memory at once: the driver that has scored them need not grow at the end.
"""

from __future__ import annotations

import io
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

from cxrgaze_ray import schemas
from cxrgaze_ray.scoring.runs.tables import STUDY_COLUMNS, summarise_studies, table_bytes

PLANNED = ["shard", "position", "image_id"]
"""Columns that say which input a row is of."""

_GROUP_ROWS = 2**15
_COUNTED = ("status", "reason_code", "prediction")


class SummingUp:
    """Takes a run's shards in order, and checks one row for every planned input.

    Parameters
    ----------
    plan
        The plan's columns `PLANNED`.
    """

    def __init__(self, plan: pa.Table) -> None:
        self._plan = plan
        self.rows = 0
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in _COUNTED}
        self._studies = [schemas.SUMMARY.empty_table().select(STUDY_COLUMNS)]
        self._group: list[pa.Table] = []
        self._bytes = io.BytesIO()
        self._file = pq.ParquetWriter(self._bytes, schemas.SUMMARY, compression="zstd")

    def add(self, table: pa.Table) -> None:
        """Add the next shard's rows (`schemas.SUMMARY`).

        Raises
        ------
        ValueError
            If they are not exactly the plan's next ones, each once.
        """
        found = table.select(PLANNED).sort_by([("shard", "ascending"), ("position", "ascending")])
        if not found.combine_chunks().equals(self._plan.slice(self.rows, table.num_rows).combine_chunks()):
            raise ValueError("the committed rows are not exactly the planned inputs")
        self.rows += table.num_rows
        for name, counts in self._counts.items():
            counts.update(value for value in table[name].to_pylist() if value is not None)
        self._studies.append(table.select(STUDY_COLUMNS))
        self._group.append(table)
        if sum(part.num_rows for part in self._group) >= _GROUP_ROWS:
            self._write()

    def counts(self, column: str) -> dict[str, int]:
        """Return how often each value of status, reason_code or prediction came, nulls left out."""
        return dict(sorted(self._counts[column].items()))

    def tables(self) -> dict[str, bytes]:
        """Return the run's summary and studies as Parquet, by file name; nothing can be added any more.

        Raises
        ------
        ValueError
            If rows of the plan are missing.
        """
        if self.rows != self._plan.num_rows:
            raise ValueError("the committed rows are not exactly the planned inputs: some are missing")
        self._write()
        self._file.close()
        studies = table_bytes(summarise_studies(pa.concat_tables(self._studies)))
        return {"summary.parquet": self._bytes.getvalue(), "studies.parquet": studies}

    def _write(self) -> None:
        if self._group:
            self._file.write_table(pa.concat_tables(self._group).combine_chunks())
        self._group.clear()
