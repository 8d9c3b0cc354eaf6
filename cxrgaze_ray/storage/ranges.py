"""A file whose bytes are requested only when they are read."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any


class RangeReader(io.RawIOBase):
    """Random access to an object.

    Parameters
    ----------
    read_part
        Returns the bytes at a start, as many as a size.
    size_bytes
        Size of the object.
    """

    def __init__(self, read_part: Callable[[int, int], bytes], size_bytes: int) -> None:
        super().__init__()
        self._read_part = read_part
        self._size_bytes = size_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self._size_bytes - self._at)
        if size <= 0:
            return 0
        data = self._read_part(self._at, size)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
