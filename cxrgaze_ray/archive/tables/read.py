"""Read columns of a table, CSV or Parquet, in bounded memory, and numbers in them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from traceback import clear_frames
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from cxrgaze_ray.archive.tables.header import called, choose, no_rows, read_header
from cxrgaze_ray.archive.tables.numbers import NoNumber, as_numbers
from cxrgaze_ray.archive.tables.parquet import read_parquet
from cxrgaze_ray.archive.tables.places import line_of, unreadable
from cxrgaze_ray.archive.tables.ragged import RaggedRows
from cxrgaze_ray.archive.tables.text import Limits, Text
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.storage import STREAM_BYTES, Store
from cxrgaze_ray.storage.spool import spooled

_TOO_LONG = f"Close its quotes, or shorten the entry that has more than {STREAM_BYTES // 2**20} MiB."
_DECIMALS = (
    "Write numbers as 1234.5. A decimal comma is read where semicolons or tabs part the cells, and never beside points."
)


@dataclass(frozen=True)
class TextTable:
    """Columns of a table as text, without white space around it; what is empty is null.

    Attributes
    ----------
    rows
        Every row that has as many cells as the header.
    malformed
        How many others there were.
    decimal_comma
        Cells are not parted by commas, so that a comma in a number is a decimal one.
    """

    name: str
    rows: pa.Table
    malformed: int
    decimal_comma: bool
    _line_of: Callable[[int], int | None]

    def numbers(self, column: str, only: pa.ChunkedArray | pa.Array | None = None) -> NDArray[np.float64]:
        """Return a column as numbers, NaN where it says none.

        Parameters
        ----------
        only
            Mask of the rows that count (bool); the others are NaN.

        Raises
        ------
        UserError
            If a cell is no number. It names table, line and column.
        """
        text = self.rows[column] if only is None else pc.if_else(only, self.rows[column], None)
        try:
            return as_numbers(text, decimal_comma=self.decimal_comma)
        except NoNumber as error:
            line = self._line_of(error.place)
            where = f"{self.name}, line {line}," if line else f"{self.name},"
            raise UserError(f"{where} column {column}: no number.", _DECIMALS) from None


def read_table(store: Store, name: str, needed: tuple[str, ...], also: tuple[str, ...], limits: Limits) -> pa.Table:
    """Read columns of a table by name, whatever the case of the name: every row, or an error.

    Parameters
    ----------
    name
        Key of a file that ends in .parquet, or else is CSV: parted by commas, semicolons or tabs, UTF-8 or UTF-16, and
        packed if it ends in .gz.
    needed, also
        Columns that must be there, and columns that are null where they are not.

    Returns
    -------
    pa.Table
        Text without white space around it; what is empty is null.

    Raises
    ------
    UserError
        If it is malformed, lacks a column, or is larger than the limits. No value of it is part of the message.
    """
    return _Reader(store, name, needed, also, limits, "error").read().rows


def read_rows(store: Store, name: str, needed: tuple[str, ...], also: tuple[str, ...], limits: Limits) -> TextTable:
    """Read columns of a table as `read_table` does; count and leave out rows of more or fewer cells than the header.

    Raises
    ------
    UserError
        As `read_table`; and if no more than half of its rows have the header's cells.
    """
    table = _Reader(store, name, needed, also, limits, "skip").read()
    if table.malformed > table.rows.num_rows:
        raise unreadable(store, name, (*needed, *also), limits)
    return table


def columns_of(store: Store, name: str, wanted: tuple[str, ...], limits: Limits) -> tuple[str, ...]:
    """Return which of the wanted columns a CSV table has, in the order in which they are wanted."""
    header = read_header(Text(store, name, limits), wanted)
    found = {column for _, column in called(header.columns, wanted)}
    return tuple(one for one in wanted if one in found)


class _Reader:
    """Reads one table once."""

    def __init__(
        self,
        store: Store,
        name: str,
        needed: tuple[str, ...],
        also: tuple[str, ...],
        limits: Limits,
        ragged: Literal["error", "skip"],
    ) -> None:
        self._store, self._name, self._limits, self._ragged = store, name, limits, ragged
        self._needed, self._wanted = needed, (*needed, *also)
        self._malformed, self._delimiter = 0, ","

    def read(self) -> TextTable:
        parquet = self._name.lower().endswith(".parquet")
        found = read_parquet(self._store, self._name, self._wanted, self._limits) if parquet else self._read_csv()
        batches, rows = [], 0
        for batch in found:
            missing = [column for column in self._needed if column not in batch.schema.names]
            if missing:
                raise UserError(f"{self._name} lacks the column {missing[0]}.", f"It needs {', '.join(self._needed)}.")
            rows += batch.num_rows
            if rows > self._limits.table_rows:
                raise UserError(f"{self._name} has more than {self._limits.table_rows} rows.", "Split it.")
            batches.append(pa.Table.from_batches([batch]))
        table = pa.concat_tables(batches)
        columns = pa.table({one: _cleaned(table, one) for one in self._wanted})
        line = (lambda _: None) if parquet else self._line_of
        return TextTable(self._name, columns, self._malformed, self._delimiter != ",", line)

    def _line_of(self, place: int) -> int | None:
        return line_of(self._store, self._name, self._wanted, self._limits, place)

    def _read_csv(self) -> Iterator[pa.RecordBatch]:
        text = Text(self._store, self._name, self._limits)
        try:
            header = read_header(text, self._wanted)
        except csv.Error:
            raise unreadable(self._store, self._name, self._wanted, self._limits) from None
        self._delimiter = header.delimiter
        chosen = choose(header.columns, self._wanted, self._name)
        yield no_rows(chosen.values())
        with spooled(iter(text.read, b"")) as path:
            yield from self._parsed(path, chosen)

    def _parsed(self, path: str, chosen: dict[str, str]) -> Iterator[pa.RecordBatch]:
        handler = RaggedRows()
        handler.lend()
        try:
            yield from self._batches(path, chosen, handler if self._ragged == "skip" else None)
        except (pa.ArrowException, OSError, ValueError) as error:
            clear_frames(error.__traceback__)  # they hold the reader, and so the handler
            if "straddl" in str(error):  # Arrow's word for what is longer than its block
                raise UserError(f"{self._name} is no sound CSV.", _TOO_LONG) from None
            raise unreadable(self._store, self._name, self._wanted, self._limits) from None
        finally:
            self._malformed += handler.count
            handler.wait()

    def _batches(self, path: str, chosen: dict[str, str], handler: RaggedRows | None) -> Iterator[pa.RecordBatch]:
        with self._open_csv(path, list(chosen), handler) as reader:
            names = [chosen[column] for column in reader.schema.names]
            for batch in reader:
                yield batch.rename_columns(names)

    def _open_csv(self, path: str, columns: list[str], handler: RaggedRows | None) -> Any:
        return pacsv.open_csv(
            path,
            read_options=pacsv.ReadOptions(block_size=STREAM_BYTES),
            parse_options=pacsv.ParseOptions(
                delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=handler
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), include_columns=columns, strings_can_be_null=False
            ),
        )


def _cleaned(table: pa.Table, name: str) -> Any:
    if name not in table.schema.names:
        return pa.nulls(table.num_rows, pa.string())
    text = pc.utf8_trim_whitespace(table[name].cast(pa.string()))
    return pc.if_else(pc.equal(text, ""), None, text)
