"""Where in a CSV table something is wrong, by reading it once more, slowly; only ever asked when something is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, AnyStr

from cxrgaze_ray.archive.tables.header import read_header
from cxrgaze_ray.archive.tables.text import Limits, Text
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.storage import Store

_LONGEST_LINE = 2**24
"""Longest line that is looked at, in bytes or characters: a file without line ends would be read into memory whole."""

_EVERY_LINE = "Check that every line has the header's columns."


def unreadable(store: Store, name: str, wanted: tuple[str, ...], limits: Limits) -> UserError:
    """Return the error that says what a table can't be read for, and in which line; no cell is part of it."""
    if (line := _not_utf8(store, name, limits)) is not None:
        return UserError(f"{name}, line {line}: no UTF-8 text.", "Save it as UTF-8.")
    try:
        rows = _rows(store, name, wanted, limits)
        _, header = next(rows)
        for line, row in rows:
            if len(row) != len(header):
                cells = f"{len(row)} cells, and the header has {len(header)}"
                return UserError(f"{name}, line {line}: {cells}.", _EVERY_LINE)
    except (csv.Error, StopIteration):
        pass
    return UserError(f"{name} is no sound CSV.", _EVERY_LINE)


def line_of(store: Store, name: str, wanted: tuple[str, ...], limits: Limits, place: int) -> int | None:
    """Return the line where the row at a place begins, counting those with as many cells as the header; None if lost.

    A quoted cell may span lines, so that rows and lines are not the same.
    """
    try:
        rows = _rows(store, name, wanted, limits)
        _, header = next(rows)
        sound = (line for line, row in rows if len(row) == len(header))
        return next(line for number, line in enumerate(sound) if number == place)
    except (csv.Error, StopIteration):
        return None


def _rows(store: Store, name: str, wanted: tuple[str, ...], limits: Limits) -> Iterator[tuple[int, list[str]]]:
    """Yield the header and every row that is not blank, with the line where it begins."""
    text = Text(store, name, limits)
    header = read_header(text, wanted)
    lines = io.TextIOWrapper(io.BufferedReader(text), "utf-8", "replace", newline="")
    reader, begins = csv.reader(_bounded(lines), delimiter=header.delimiter), header.lines_before + 1
    for row in reader:
        if row:
            yield begins, row
        begins = reader.line_num + header.lines_before + 1


def _bounded(lines: IO[AnyStr]) -> Iterator[AnyStr]:
    while line := lines.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            raise csv.Error("a line is too long")
        yield line


def _not_utf8(store: Store, name: str, limits: Limits) -> int | None:
    lines = io.BufferedReader(Text(store, name, limits))
    with suppress(csv.Error):  # a line that is too long is met again, when rows are read
        for number, line in enumerate(_bounded(lines), 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return None
