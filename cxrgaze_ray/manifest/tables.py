"""Read the tables that come with an archive, CSV or Parquet, in bounded memory; all columns are text."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.storage import STREAM_BYTES, Store

_HEADER_BYTES = 2**16
_PARQUET_BYTES = 2**29
_BATCH_ROWS = 2**16
_GZIP = zlib.MAX_WBITS | 16


@dataclass(frozen=True)
class Limits:
    """What a table may unpack to.

    Attributes
    ----------
    table_bytes
        Bytes of its text.
    table_rows
        Rows of one table; MIMIC-CXR's have 377,110. A field may have 2 MiB.
    """

    table_bytes: int = 2**31
    table_rows: int = 5_000_000


def read_table(store: Store, name: str, needed: tuple[str, ...], also: tuple[str, ...], limits: Limits) -> pa.Table:
    """Read columns of a table by name, whatever the case of the name.

    Parameters
    ----------
    name
        Key of a file that ends in .csv, .csv.gz or .parquet.
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
    read = _read_parquet if name.lower().endswith(".parquet") else _read_csv
    batches, rows = [], 0
    for batch in read(store, name, (*needed, *also), limits):
        missing = [column for column in needed if column not in batch.schema.names]
        if missing:
            raise UserError(f"{name} lacks the column {missing[0]}.", f"It needs {', '.join(needed)}.")
        rows += batch.num_rows
        if rows > limits.table_rows:
            raise UserError(f"{name} has more than {limits.table_rows} rows.", "Split the archive.")
        batches.append(pa.Table.from_batches([batch]))
    table = pa.concat_tables(batches)
    columns = {one: _cleaned(table, one) for one in (*needed, *also)}
    return pa.table(columns)


def _cleaned(table: pa.Table, name: str) -> Any:
    if name not in table.schema.names:
        return pa.nulls(table.num_rows, pa.string())
    text = pc.utf8_trim_whitespace(table[name].cast(pa.string()))
    return pc.if_else(pc.equal(text, ""), None, text)


def _read_csv(store: Store, name: str, wanted: tuple[str, ...], limits: Limits) -> Iterator[pa.RecordBatch]:
    text = _Text(store, name, limits)
    try:
        chosen = _choose(_header(text.peek(_HEADER_BYTES)), wanted, name)
        with _open_csv(text, list(chosen)) as reader:
            names = [chosen[column] for column in reader.schema.names]
            yield _empty(names)
            for batch in reader:
                yield batch.rename_columns(names)
    except (pa.ArrowException, OSError, ValueError, csv.Error):
        if text.failed is not None:
            raise text.failed from None
        raise UserError(f"{name} is no sound CSV.", "Check that every line has the header's columns.") from None


def _empty(names: list[str]) -> pa.RecordBatch:
    """Return no rows, which name the columns of a table that has none."""
    return pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(names), names)


def _open_csv(text: _Text, columns: list[str]) -> Any:
    return pacsv.open_csv(
        text,
        read_options=pacsv.ReadOptions(block_size=STREAM_BYTES),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()), include_columns=columns, strings_can_be_null=False
        ),
    )


def _header(start: bytes) -> list[str]:
    rows = csv.reader(io.StringIO(start.decode("utf-8-sig", "replace"), newline=""))
    return next((row for row in rows if row), [])


def _choose(found: list[str], wanted: tuple[str, ...], name: str) -> dict[str, str]:
    """Return the names of found columns that are wanted, and what they are called here."""
    called = {one.lower(): one for one in wanted}
    chosen = [(column, called[column.strip().lower()]) for column in found if column.strip().lower() in called]
    if len({one for _, one in chosen}) < len(chosen):
        raise UserError(f"{name} has a column twice.", "Remove one.")
    if not chosen:
        raise UserError(f"{name} has none of the columns {', '.join(wanted)}.", "Check its first line.")
    return dict(chosen)


def _read_parquet(store: Store, name: str, wanted: tuple[str, ...], limits: Limits) -> Iterator[pa.RecordBatch]:
    file = open_parquet(store, name, limits)
    chosen = _choose(file.schema_arrow.names, wanted, name)
    yield from read_batches(file, name, chosen, limits)


def open_parquet(store: Store, name: str, limits: Limits) -> pq.ParquetFile:
    """Open a Parquet file whose own account of itself is within the limits."""
    info = store.info(name)
    if info is not None and info.size_bytes > _PARQUET_BYTES:
        raise UserError(f"{name} has more than {_PARQUET_BYTES // 2**20} MiB.", "Split it.")
    data = store.get(name)
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
    except (pa.ArrowException, OSError, ValueError):
        raise UserError(f"{name} is no sound Parquet file.", "Write it again.") from None
    if file.metadata.num_rows > limits.table_rows:
        raise UserError(f"{name} has more than {limits.table_rows} rows.", "Split it.")
    return file


def read_batches(file: pq.ParquetFile, name: str, chosen: dict[str, str], limits: Limits) -> Iterator[pa.RecordBatch]:
    """Yield columns in batches, an empty one first, until the limits are passed."""
    yield _empty(list(chosen.values()))
    size = 0
    try:
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(chosen)):
            size += batch.nbytes
            if size > limits.table_bytes:
                raise UserError(f"{name} unpacks to more than {limits.table_bytes} bytes.", "Split it.")
            columns = [batch[column].cast(pa.string()) for column in chosen]
            yield pa.RecordBatch.from_arrays(columns, list(chosen.values()))
    except (pa.ArrowException, OSError, ValueError):
        raise UserError(f"{name} has columns that are no text.", "Write them as strings.") from None


class _Text(io.RawIOBase):
    """A file's text, unpacked as it is read, never further than the limit."""

    def __init__(self, store: Store, name: str, limits: Limits) -> None:
        super().__init__()
        self.failed: Exception | None = None
        blocks = store.stream(name)
        self._blocks = _bounded(_unpacked(blocks, name) if name.lower().endswith(".gz") else blocks, name, limits)
        self._buffer = bytearray()

    def readable(self) -> bool:
        return True

    def peek(self, size: int) -> bytes:
        """Return up to `size` bytes, which stay to be read."""
        self._fill(size)
        return bytes(self._buffer[:size])

    def read(self, size: int | None = -1) -> bytes:
        size = STREAM_BYTES if size is None or size < 0 else size
        self._fill(size)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _fill(self, size: int) -> None:
        try:
            while len(self._buffer) < size and (block := next(self._blocks, None)) is not None:
                self._buffer += block
        except Exception as error:
            self.failed = error  # Arrow's reader thread may say it in its own words
            raise


def _bounded(blocks: Iterator[bytes], name: str, limits: Limits) -> Iterator[bytes]:
    size = 0
    for block in blocks:
        size += len(block)
        if size > limits.table_bytes:
            raise UserError(f"{name} unpacks to more than {limits.table_bytes} bytes.", "Check the file.")
        yield block
    yield b"\n"  # Arrow reads no header that ends with the file


def _unpacked(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Inflate a gzip file of one or more members, at most `STREAM_BYTES` at a time."""
    inflater, begun = zlib.decompressobj(_GZIP), False
    try:
        for block in blocks:
            while block:
                yield inflater.decompress(block, STREAM_BYTES)
                begun, block = True, inflater.unconsumed_tail
                if inflater.eof:
                    block = inflater.unused_data.lstrip(b"\0")  # padding, as tapes and gzip itself allow
                    inflater, begun = zlib.decompressobj(_GZIP), False
    except zlib.error:
        raise UserError(f"{name} can't be unpacked.", "Copy it again from its source.") from None
    if begun:
        raise UserError(f"{name} can't be unpacked: it ends early.", "Copy it again from its source.")
