"""cxrgaze runs query."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from cxrgaze_ray.cli.console import print_table, say, show
from cxrgaze_ray.cli.options import Json
from cxrgaze_ray.cli.runs import RunUri
from cxrgaze_ray.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa


def query(
    run: RunUri,
    sql: Annotated[str, typer.Argument(help="One SELECT on the tables results and studies, in DuckDB's SQL.")],
    limit: Annotated[int, typer.Option(min=1, help="Show so many rows of the answer; not for --json and --csv.")] = 50,
    with_paths: Annotated[
        bool, typer.Option("--with-paths", help="Give results a first column uri; paths may name patients.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the whole answer as CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Ask a run a question in SQL. The query can read the run, and nothing else.

    `describe results` lists the columns, which are those of a run's Parquet files without maps.

    Example: cxrgaze runs query ./results/3f0c5a9d1b2e4f67 "select prediction, count(*) from results group by 1"
    """
    from cxrgaze_ray.export.query import query_run
    from cxrgaze_ray.scoring.runs import Run
    from cxrgaze_ray.storage import open_store

    if as_csv and as_json:
        raise ConfigError("--csv and --json are two forms of one answer.", "Give one of them.")
    opened = Run.open(open_store(run))
    if opened.success() is None and not (as_csv or as_json):
        say("The run is not finished: only rows committed so far are asked.")
    with query_run(opened, sql, with_paths=with_paths) as (schema, tables):
        if as_csv:
            _print_csv(schema, tables)
        elif as_json:
            rows = [row for table in tables for row in table.to_pylist()]
            show({"run": run, "columns": schema.names, "rows": rows}, as_json=True)
        else:
            _print_rows(schema, tables, limit)


def _print_csv(schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
    from cxrgaze_ray.export.tables import csv_blocks

    for block in csv_blocks(tables, schema):
        sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()


def _print_rows(schema: pa.Schema, tables: Iterator[pa.Table], limit: int) -> None:
    shown: list[dict[str, object]] = []
    count = 0
    for table in tables:
        shown += table.slice(0, limit - len(shown)).to_pylist() if len(shown) < limit else []
        count += table.num_rows
    print_table(schema.names, [[_brief(value) for value in row.values()] for row in shown])
    if count > len(shown):
        say(f"{count - len(shown)} more rows: --limit shows more of them, --csv all.")


def _brief(value: object) -> object:
    """Shorten a number for people; --csv and --json have all of its digits."""
    return f"{value:.6g}" if isinstance(value, float) else value
