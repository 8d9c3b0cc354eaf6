"""What every store can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
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


class ArchiveEntry(NamedTuple):
    """What stands at a key of an archive that others made.

    Of a file, size and etag are those of its `ObjectInfo`. Where no file can be read, the size is None, and the etag
    is the `schemas.Reason` why, or None if nothing is there.
    """

    key: str
    size_bytes: int | None
    etag: str | None


@dataclass
class Survey:
    """How an archive is walked, and what was met that is no entry.

    Attributes
    ----------
    follow_links
        Follow links that lead out of the archive, too; else each is an entry that says so.
    closed
        Keys of folders that may not be listed: what lies in them is unknown.
    link_loops
        Links to a folder that they lie in: what it holds is listed already.
    folder_markers
        Empty objects that stand for a folder.
    """

    follow_links: bool = False
    closed: list[str] = field(default_factory=list)
    link_loops: int = 0
    folder_markers: int = 0


class Store(ABC):
    """Objects under one URI. Keys are relative, with forward slashes, and never leave the root."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def child(self, key: str) -> Store:
        """Return the store rooted at a key of this one."""
        return type(self)(self.locate(checked(key)))

    def without_retries(self) -> Store:
        """Return this store without retries, for those who ask again themselves.

        Each operation makes one short attempt, and raises StoreUnavailable where others would be retried.
        """
        return self  # a folder answers at once anyway

    def locate(self, key: str) -> str:
        """Return the absolute URI of a key."""
        return joined(self.uri, key)

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

    def fetch_same(self, info: ObjectInfo) -> bytes | None:
        """Return an object's bytes if they are still those of an info, else None; StoreNotFound if it is not there."""
        data, now = self.fetch(info.key)
        return data if now == info else None

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

    def look(self, key: str) -> ArchiveEntry:
        """Return what stands at a key; what is no file, and what can't be read, is told apart from nothing."""
        info = self.info(key)
        return ArchiveEntry(key, info and info.size_bytes, info and info.etag)

    @abstractmethod
    def survey(self, survey: Survey) -> Iterator[ArchiveEntry]:
        """Yield whatever is under the root, in key order: for archives, where nothing may be left out in silence.

        Raises
        ------
        StoreNotFound
            If there is no root; StoreDenied if it may not be listed.
        """

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


def joined(uri: str, key: str) -> str:
    """Return the URI of a key below a root's."""
    return f"{uri}{'' if uri.endswith('/') else '/'}{key}"


def checked(key: str) -> str:
    """Return a key, or raise UserError if it leaves its store."""
    if key.startswith("/") or ".." in key.split("/"):
        raise UserError("A key leaves its store.")
    return key
