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

_NEVER_TEXT = (
    pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_date
)  # fmt: skip
"""Kinds of columns whose values are no text that a file could have brought; -0.5 is a number, and no formula."""

_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def csv_blocks(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[bytes]:
    """Yield a CSV's bytes, UTF-8: the header, then a block a table.

    Nulls are empty, numbers the shortest text that restores them, times ISO 8601 in UTC. Text that a spreadsheet would
    compute gets an apostrophe before it.
    """
    yield _lines([schema.names])
    for table in tables:
        yield _lines(zip(*(_texts(table[name]) for name in schema.names), strict=True))


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    if pa.types.is_timestamp(column.type):
        column = pc.strftime(column, "%Y-%m-%dT%H:%M:%SZ")
    elif not any(is_kind(column.type) for is_kind in _NEVER_TEXT):
        column = pc.replace_substring_regex(_as_text(column), _FORMULA, r"\1'\2")
        column = pc.replace_substring_regex(column, _BLANK, r"'\1")
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of any type as strings; those that only a query gives, such as lists, as Python prints them."""
    if pa.types.is_dictionary(column.type) or any(is_kind(column.type) for is_kind in _TEXT):
        return column.cast(pa.string())
    texts = [None if value is None else str(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _lines(rows: Iterable[Iterable[str | None]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
