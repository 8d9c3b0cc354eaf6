"""Result rows as an Excel workbook (Office Open XML), written row by row: memory does not grow with the run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import IO, Any

import pyarrow as pa
import xlsxwriter

from cxrgaze_ray.errors import UserError

MOST_ROWS = 1_048_576
"""Rows of a sheet, its header among them: what Excel opens."""

_WIDTH = 16
"""Columns' width in characters: enough for most values, and for a glance at hashes."""

Sheets = Mapping[str, tuple[pa.Schema, Iterable[pa.Table]]]
"""Tables by the name of their sheet, each with its schema, in blocks."""


def check_rows(rows: int) -> None:
    """Raise UserError for more rows than a sheet holds below its header."""
    if rows >= MOST_ROWS:
        raise UserError(
            f"The run has {rows} rows, and an Excel sheet holds {MOST_ROWS - 1} below its header.",
            "Export csv, or take what you need: cxrgaze runs query.",
        )


def write_workbook(file: IO[bytes], sheets: Sheets, created: datetime) -> None:
    """Write a sheet for each table: header, filter, and every row.

    Text is written as text: a tag that says ``=cmd|...`` is shown as it is, and never computed. Nulls are empty cells,
    times are in UTC, and numbers of single precision are the shortest that restore them. The same rows and time of
    creation give the same bytes.
    """
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(file, options) as book:
        book.set_properties({"created": created})
        head, time = book.add_format({"bold": True}), book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        for name, (schema, tables) in sheets.items():
            sheet = book.add_worksheet(name)
            sheet.freeze_panes(1, 0)
            sheet.set_column(0, len(schema) - 1, _WIDTH)
            for column, title in enumerate(schema.names):
                sheet.write_string(0, column, title, head)
            rows = _write_rows(sheet, schema, tables, time)
            sheet.autofilter(0, 0, rows, len(schema) - 1)


def _write_rows(sheet: Any, schema: pa.Schema, tables: Iterable[pa.Table], time: Any) -> int:
    """Write tables below a sheet's header; return the number of the last row."""
    row = 0
    for table in tables:
        columns = [_values(table[name]) for name in schema.names]
        for values in zip(*columns, strict=True):
            row += 1
            for column, value in enumerate(values):
                if value is not None:
                    _write_cell(sheet, row, column, value, time)
    return row


def _values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_float32(column.type):  # as a double it would show digits that were never there
        return [None if text is None else float(text) for text in column.cast(pa.string()).to_pylist()]
    values: list[Any] = column.to_pylist()
    return values


def _write_cell(sheet: Any, row: int, column: int, value: Any, time: Any) -> None:
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, datetime):
        sheet.write_datetime(row, column, value.replace(tzinfo=None), time)
    elif isinstance(value, int | float) and math.isfinite(value):
        sheet.write_number(row, column, value)
    else:
        sheet.write_string(row, column, str(value))
