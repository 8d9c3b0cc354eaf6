"""A file's text as UTF-8, unpacked as it is read and never further than the limit."""

from __future__ import annotations

import codecs
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.storage import STREAM_BYTES, Store

_GZIP = zlib.MAX_WBITS | 16
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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


class Text(io.RawIOBase):
    """Text of a file, packed or not, UTF-8 or UTF-16 as spreadsheets write it, without its byte order mark."""

    def __init__(self, store: Store, name: str, limits: Limits) -> None:
        super().__init__()
        blocks = store.stream(name)
        unpacked = _unpacked(blocks, name) if name.lower().endswith(".gz") else blocks
        self._blocks = _bounded(_as_utf8(unpacked, name), name, limits)
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

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _fill(self, size: int) -> None:
        while len(self._buffer) < size and (block := next(self._blocks, None)) is not None:
            self._buffer += block


def _bounded(blocks: Iterator[bytes], name: str, limits: Limits) -> Iterator[bytes]:
    size = 0
    for block in blocks:
        size += len(block)
        if size > limits.table_bytes:
            raise UserError(f"{name} unpacks to more than {limits.table_bytes} bytes.", "Check the file.")
        yield block
    yield b"\n"  # Arrow reads no header that ends with the file


def _as_utf8(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Drop a byte order mark, and turn UTF-16 into UTF-8 where the mark says so."""
    start = b""
    while len(start) < len(codecs.BOM_UTF8) and (block := next(blocks, None)) is not None:
        start += block
    if not start.startswith(_UTF16):
        yield start.removeprefix(codecs.BOM_UTF8)
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder("utf-16")()
    try:
        yield decoder.decode(start).encode()
        for block in blocks:
            yield decoder.decode(block).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError:
        raise UserError(f"{name} begins as UTF-16 text and does not go on so.", "Save it as UTF-8.") from None


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
