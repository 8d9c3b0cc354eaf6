"""What the first line of a table says: its columns, and what parts its cells."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from cxrgaze_ray.archive.tables.text import Text
from cxrgaze_ray.errors import UserError

_HEADER_BYTES = 2**16
_DELIMITERS = ",;\t"
_DECLARED = re.compile(rb"sep=(.)\r?\n")


@dataclass(frozen=True)
class Header:
    """The first line of a table.

    Attributes
    ----------
    columns
        As they are written.
    delimiter
        Comma; or semicolon or tab, as spreadsheets write it where a comma stands in numbers.
    lines_before
        Lines that tell a spreadsheet what the delimiter is.
    """

    columns: list[str]
    delimiter: str = ","
    lines_before: int = 0


def read_header(text: Text, wanted: tuple[str, ...]) -> Header:
    """Read a table's header, which stays to be read: the delimiter is the one that makes most wanted columns of it."""
    before = 0
    if declared := _DECLARED.match(text.peek(_HEADER_BYTES)):
        text.read(declared.end())
        before = 1
    start = text.peek(_HEADER_BYTES).decode("utf-8", "replace")
    found = [Header(_first_row(start, delimiter), delimiter, before) for delimiter in _DELIMITERS]
    return max(found, key=lambda header: len(called(header.columns, wanted)))


def _first_row(start: str, delimiter: str) -> list[str]:
    rows = csv.reader(io.StringIO(start, newline=""), delimiter=delimiter)
    return next((row for row in rows if row), [])


def choose(found: list[str], wanted: tuple[str, ...], name: str) -> dict[str, str]:
    """Return the names of found columns that are wanted, and what they are called here."""
    if not found:
        raise UserError(f"{name} is empty.", "Copy it again from its source.")
    chosen = called(found, wanted)
    names = [one for _, one in chosen]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise UserError(f"{name} has the column {twice} twice.", "Remove one.")
    if not chosen:
        raise UserError(f"{name} has none of the columns {', '.join(wanted)}.", "Check its first line.")
    return dict(chosen)


def called(found: list[str], wanted: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return (column, name) of the columns that are wanted: whatever their case, unless one is written exactly so."""
    exact = set(found) & set(wanted)
    folded = {one.lower(): one for one in wanted if one not in exact}
    names = [column if column in exact else folded.get(column.strip().lower()) for column in found]
    return [(column, name) for column, name in zip(found, names, strict=True) if name is not None]


def no_rows(names: Iterable[str]) -> pa.RecordBatch:
    """Return no rows, which name the columns of a table that has none."""
    columns = list(names)
    return pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(columns), columns)
