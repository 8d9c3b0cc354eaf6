"""What every store can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import IO, NamedTuple

import pyarrow.fs as pafs

from cxrgaze_ray.errors import UserError

STREAM_BYTES = 2**20
"""Block of `Store.stream`."""


class ObjectInfo(NamedTuple):
    """One object: key relative to the store, size in bytes, and an etag that changes with the content."""

    key: str
    size_bytes: int
    etag: str


class Store(ABC):
    """Objects under one URI. Keys are relative, with forward slashes, and never leave the root."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/") or "/"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def child(self, key: str) -> Store:
        """Return the store rooted at a key of this one."""
        return type(self)(self.locate(key))

    def once(self) -> Store:
        """Return this store with no patience, for those who ask again themselves.

        Each operation makes one short attempt, and raises StoreUnavailable where others would be retried.
        """
        return self  # a folder answers at once anyway

    def locate(self, key: str) -> str:
        """Return the absolute URI of a key."""
        return f"{self.uri.rstrip('/')}/{checked(key)}"

    def read_text(self, key: str) -> str:
        """Return an object as UTF-8 text; UserError if it is none."""
        try:
            return self.get(key).decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.locate(key)} is not UTF-8 text.", "Check the file.") from error

    def exists(self, key: str) -> bool:
        """Say whether an object is there."""
        return self.info(key) is not None

    def get(self, key: str) -> bytes:
        """Return an object's bytes; StoreNotFound if it is not there."""
        return self.fetch(key)[0]

    @abstractmethod
    def fetch(self, key: str) -> tuple[bytes, ObjectInfo]:
        """Return an object's bytes with the size and etag they had; StoreNotFound if it is not there."""

    @abstractmethod
    def stream(self, key: str) -> Iterator[bytes]:
        """Yield an object's bytes in blocks of at most `STREAM_BYTES`; StoreNotFound if it is not there.

        They are of one version: StoreUnavailable if the object is replaced meanwhile.
        """

    @abstractmethod
    def open_input(self, key: str) -> IO[bytes]:
        """Open an object to read it here and there, as Parquet readers do; StoreNotFound if it is not there.

        Reads are retried and fail as those of `get` do, and are of one version of the object.
        """

    @abstractmethod
    def head(self, key: str, size: int) -> bytes:
        """Return an object's first `size` bytes; StoreNotFound if it is not there."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write an object whole, replacing what was there. Readers see the old or the new bytes."""

    @abstractmethod
    def put_file(self, key: str, file: IO[bytes]) -> None:
        """Write what a file holds as `put` does, from its start, without holding it in memory."""

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object only if there is none: True if this call's bytes now stand there.

        Atomic against every other writer. After a lost reply the answer may be False although
        the bytes are ours: who must know carries a nonce in them and reads back.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if it is not there."""

    @abstractmethod
    def info(self, key: str) -> ObjectInfo | None:
        """Return size and etag, or None."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with the prefix, in key order; temporary files are left out."""

    @abstractmethod
    def folders(self) -> tuple[str, ...]:
        """Return the names of the folders directly under the root, in order; none if there is no root."""

    @abstractmethod
    def filesystem(self) -> tuple[pafs.FileSystem, str]:
        """Return the Arrow filesystem and the root's path on it, for Parquet readers and Ray.

        It speaks for itself: its errors are plain OSError. To read Parquet files, `open_input` is the safer way.
        """


def checked(key: str) -> str:
    """Return a key, or raise UserError if it leaves its store."""
    if key.startswith("/") or ".." in key.split("/"):
        raise UserError("A key leaves its store.")
    return key
