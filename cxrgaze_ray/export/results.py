"""A run's rows as tables: with or without the files' places, finished or not, to CSV or a workbook."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from cxrgaze_ray import schemas
from cxrgaze_ray.export.tables import csv_blocks
from cxrgaze_ray.export.workbook import write_workbook
from cxrgaze_ray.scoring.runs import Run, uris_of
from cxrgaze_ray.scoring.runs.tables import readable, summarise_studies
from cxrgaze_ray.storage import Store

_URI = schemas.PLAN.field("uri")


def export_tables(
    run: Run, workbook: bool, out: Store, with_paths: bool, on_progress: Callable[[int, int], None]
) -> int:
    """Write a run's rows and its studies, as CSV or as sheets of one workbook; return the number of files."""
    sheets = {
        "results": (result_schema(with_paths), _told(result_tables(run, with_paths), run.spec.rows, on_progress)),
        "studies": (schemas.STUDIES, [study_table(run)]),
    }
    if workbook:
        created = datetime.fromisoformat(run.spec.created_at)
        _stream(out, "results.xlsx", lambda file: write_workbook(file, sheets, created))
        return 1
    for name, sheet in sheets.items():
        _stream(out, f"{name}.csv", partial(_write_csv, *sheet))
    return len(sheets)


def result_schema(with_paths: bool) -> pa.Schema:
    """Return the columns of a run's table: `schemas.SUMMARY`, after the file's ``uri`` if that is asked for."""
    return schemas.SUMMARY.insert(0, _URI) if with_paths else schemas.SUMMARY


def result_tables(run: Run, with_paths: bool) -> Iterator[pa.Table]:
    """Yield the rows of a run, finished or not, as `result_schema` has them, a part at a time."""
    plan = run.plan() if with_paths else None
    for table in run.tables(schemas.SUMMARY.names):
        yield table if plan is None else table.add_column(0, _URI, uris_of(table, plan))


def study_table(run: Run) -> pa.Table:
    """Return one row a study: a finished run's table, or that of the rows so far."""
    if run.success() is None:
        return summarise_studies(run.summary())
    with readable(run.store.locate("studies.parquet")):
        return pq.read_table(pa.BufferReader(run.store.get("studies.parquet")), schema=schemas.STUDIES)


def _told(tables: Iterable[pa.Table], rows: int, on_progress: Callable[[int, int], None]) -> Iterator[pa.Table]:
    done = 0
    for table in tables:
        yield table
        done += table.num_rows
        on_progress(done, rows)


def _write_csv(schema: pa.Schema, tables: Iterable[pa.Table], file: IO[bytes]) -> None:
    file.writelines(csv_blocks(tables, schema))


def _stream(out: Store, key: str, write: Callable[[IO[bytes]], None]) -> None:
    """Write an object block by block, whole or not at all: gathered on the local disk first."""
    with tempfile.TemporaryFile() as gathered:
        write(gathered)
        out.put_file(key, gathered)
