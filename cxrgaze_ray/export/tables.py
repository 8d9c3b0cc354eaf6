"""Result rows as CSV (RFC 4180) that a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

_FORMULA = r"(^|[;\t\r\n])([=+\-@\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}])"
"""How a cell begins that a spreadsheet computes: tags of a file may say ``=cmd|...``, in full-width characters too.

A spreadsheet that parts cells at semicolons or tabs, as many do outside English, sees one begin in the middle of ours.
"""

_BLANK = r"^([\t\r\n])"
"""What some leave out before they look for a formula."""


def csv_blocks(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[bytes]:
    """Yield a CSV's bytes, UTF-8: the header, then a block a table.

    Nulls are empty, numbers the shortest text that restores them, times ISO 8601 in UTC. Text that a spreadsheet would
    compute gets an apostrophe before it.
    """
    yield _lines([schema.names])
    for table in tables:
        yield _lines(zip(*(_texts(table[name]) for name in schema.names), strict=True))


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    if pa.types.is_string(column.type):
        column = pc.replace_substring_regex(column, _FORMULA, r"\1'\2")
        column = pc.replace_substring_regex(column, _BLANK, r"'\1")
    elif pa.types.is_timestamp(column.type):
        column = pc.strftime(column, "%Y-%m-%dT%H:%M:%SZ")
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts


def _lines(rows: Iterable[Iterable[str | None]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
