"""The operations of every store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, ClassVar, NamedTuple

import pyarrow.fs as pafs

from cxrgaze_ray import telemetry
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.telemetry.table import STORE_BYTES

STREAM_BYTES = 2**20
"""Largest block of `Store.stream`, in bytes."""


class ObjectInfo(NamedTuple):
    """One object: key relative to the store, size in bytes, and an etag that changes with the content."""

    key: str
    size_bytes: int
    etag: str


class ArchiveEntry(NamedTuple):
    """The entry found at a key of an archive that others made.

    For a file, size and etag are those of its `ObjectInfo`. Where no file can be read, the size is None, and the etag
    is the `schemas.Reason` why, or None if the key is empty.
    """

    key: str
    size_bytes: int | None
    etag: str | None


@dataclass
class Survey:
    """How an archive is walked, and what was met that is not an entry.

    Attributes
    ----------
    follow_links
        Whether links that lead out of the archive are followed; otherwise each is an entry that says so.
    closed
        Keys of folders that may not be listed: their contents are unknown.
    link_loops
        Links to a folder that they lie in: its contents are listed already.
    folder_markers
        Empty objects that stand for a folder.
    """

    follow_links: bool = False
    closed: list[str] = field(default_factory=list)
    link_loops: int = 0
    folder_markers: int = 0


class Store(ABC):
    """Objects under one URI. Keys are relative, with forward slashes, and never leave the root."""

    kind: ClassVar[str]
    """Value of the metrics' label ``store``."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def child(self, key: str) -> Store:
        """Return the store rooted at a key of this one."""
        return type(self)(self.locate(checked(key)))

    def without_retries(self) -> Store:
        """Return this store without retries, for callers that retry by themselves.

        Each operation makes one short attempt, and raises StoreUnavailable where others would be retried.
        """
        return self  # a folder answers at once anyway

    def _came(self, data: bytes) -> bytes:
        """Count bytes that were read, and return them."""
        telemetry.record(STORE_BYTES, len(data), store=self.kind, direction="read")
        return data

    def _went(self, size_bytes: int) -> None:
        """Count bytes that were written."""
        telemetry.record(STORE_BYTES, size_bytes, store=self.kind, direction="write")

    def locate(self, key: str) -> str:
        """Return the absolute URI of a key."""
        return joined(self.uri, key)

    def read_text(self, key: str) -> str:
        """Return an object as UTF-8 text; UserError if it is not UTF-8."""
        try:
            return self.get(key).decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.locate(key)} is not UTF-8 text.", "Check the file.") from error

    def exists(self, key: str) -> bool:
        """Return whether an object exists."""
        return self.info(key) is not None

    def get(self, key: str) -> bytes:
        """Return an object's bytes; StoreNotFound if it does not exist."""
        return self.fetch(key)[0]

    @abstractmethod
    def fetch(self, key: str) -> tuple[bytes, ObjectInfo]:
        """Return an object's bytes with the size and etag they had; StoreNotFound if it does not exist."""

    def fetch_same(self, info: ObjectInfo) -> bytes | None:
        """Return an object's bytes if they still match an info, else None; StoreNotFound if it does not exist."""
        data, now = self.fetch(info.key)
        return data if now == info else None

    @abstractmethod
    def stream(self, key: str) -> Iterator[bytes]:
        """Yield an object's bytes in blocks of at most `STREAM_BYTES`; StoreNotFound if it does not exist.

        They are of one version: StoreUnavailable if the object is replaced meanwhile.
        """

    @abstractmethod
    def open_input(self, key: str, info: ObjectInfo | None = None) -> IO[bytes]:
        """Open an object for random access, as Parquet readers need; StoreNotFound if it does not exist.

        Reads are retried and fail as those of `get` do, and all see one version of the object.

        Parameters
        ----------
        info
            What `info` returned before: a bucket is not asked again, and reads fail if the object has changed since.
        """

    @abstractmethod
    def head(self, key: str, size: int) -> bytes:
        """Return an object's first `size` bytes; StoreNotFound if it does not exist."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write a whole object, replacing any earlier one. Readers see the old or the new bytes."""

    @abstractmethod
    def put_file(self, key: str, file: IO[bytes]) -> None:
        """Write a file's contents as `put` does, from its start, without holding them in memory."""

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object only if there is none: True if this call's bytes are now stored.

        Atomic against every other writer. After a lost reply the answer may be False although
        the bytes are ours: a caller that must know puts a nonce in them and reads them back.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if it does not exist."""

    @abstractmethod
    def info(self, key: str) -> ObjectInfo | None:
        """Return size and etag, or None."""

    def look(self, key: str) -> ArchiveEntry:
        """Return what a key holds; anything that is not a file, or can't be read, is told apart from nothing."""
        info = self.info(key)
        return ArchiveEntry(key, info and info.size_bytes, info and info.etag)

    @abstractmethod
    def survey(self, survey: Survey) -> Iterator[ArchiveEntry]:
        """Yield everything under the root, in key order: for archives, where nothing may be left out silently.

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

        Its errors are plain OSError, not ours. To read Parquet files, `open_input` is the safer way.
        """


def joined(uri: str, key: str) -> str:
    """Return the URI of a key below a root's."""
    return f"{uri}{'' if uri.endswith('/') else '/'}{key}"


def checked(key: str) -> str:
    """Return a key, or raise UserError if it leads out of its store."""
    if key.startswith("/") or ".." in key.split("/"):
        raise UserError("A key leads out of its store.")
    return key
