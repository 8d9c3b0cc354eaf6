"""SQL over a run, by DuckDB: reads the run's rows, and can reach nothing else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from cxrgaze_ray import schemas
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.export.results import result_schema, result_tables, study_table
from cxrgaze_ray.scoring.runs import Run

_HINT = "Tables are results and studies; `describe results` lists the columns."
_LOCKED = ("enable_external_access = false", "python_enable_replacements = false", "lock_configuration = true")
_BATCH_ROWS = 10_000


@contextmanager
def query_run(run: Run, sql: str, *, with_paths: bool = False) -> Iterator[tuple[pa.Schema, Iterator[pa.Table]]]:
    """Answer a query on a run, finished or not, with the answer's schema and its rows in parts.

    The run's tables are copied to the local disk and read from there, so that neither the run nor the query has to fit
    into memory. The query runs in a database of its own that may read these copies, and no other file or address.

    Parameters
    ----------
    sql
        One SELECT, in DuckDB's SQL, on ``results`` (`schemas.SUMMARY`, every row) and ``studies`` (`schemas.STUDIES`).
    with_paths
        Give ``results`` a first column ``uri``, which may name patients.

    Raises
    ------
    UserError
        If it is not one SELECT, or DuckDB refuses it: its own words say why.
    EnvironmentFault
        If the run's store can't be read.
    """
    _check_one_select(sql)
    with tempfile.TemporaryDirectory(prefix="cxrgaze-query-") as folder, duckdb.connect(":memory:") as database:
        parts = {
            "results": (result_schema(with_paths), result_tables(run, with_paths)),
            "studies": (schemas.STUDIES, iter([study_table(run)])),
        }
        files = {name: _copy(Path(folder) / f"{name}.parquet", *part) for name, part in parts.items()}
        database.execute(f"set temp_directory = {_quoted(folder)}")
        database.execute(f"set allowed_paths = [{', '.join(map(_quoted, files.values()))}]")
        for name, file in files.items():
            database.execute(f"create view {name} as select * from read_parquet({_quoted(file)})")
        for setting in _LOCKED:
            database.execute(f"set {setting}")
        try:
            answer = database.sql(sql).to_arrow_reader(_BATCH_ROWS)
            yield answer.schema, (pa.Table.from_batches([batch]) for batch in answer)
        except duckdb.Error as error:
            raise _refused(error) from error


def _check_one_select(sql: str) -> None:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise _refused(error) from error
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise UserError("A query is one SELECT.", _HINT)


def _refused(error: duckdb.Error) -> UserError:
    return UserError(f"DuckDB can't answer the query: {str(error).splitlines()[0].rstrip('.')}.", _HINT)


def _quoted(path: str | Path) -> str:
    """Return a path as a string of SQL."""
    text = str(path).replace("'", "''")
    return f"'{text}'"


def _copy(file: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> Path:
    with pq.ParquetWriter(file, schema) as writer:
        for table in tables:
            writer.write_table(table.select(schema.names).cast(schema))
    return file
