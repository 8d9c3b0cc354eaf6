"""A local folder as a store."""

from __future__ import annotations

import errno
import io
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import IO

import pyarrow.fs as pafs

from cxrgaze_ray.errors import ObjectDenied, StoreDenied, StoreNotFound, StoreUnavailable
from cxrgaze_ray.schemas import Reason
from cxrgaze_ray.storage.base import STREAM_BYTES, ArchiveEntry, ObjectInfo, Store, Survey, checked
from cxrgaze_ray.storage.walk import NO_SUCH_PATH, READ, Walk, local_etag, mode_denies, told, unread, way_is_shut

TEMPORARY_PREFIX = ".cxrgaze-tmp-"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_MODE = "Check owner and mode of it and its folder."


class LocalStore(Store):
    """A folder. Writes go to a temporary file beside the target, then are renamed or linked into place."""

    kind = "folder"

    def __init__(self, uri: str) -> None:
        path = Path(uri).expanduser()
        self.root = path.resolve() if ".." in path.parts else path.absolute()  # a URI has no parent steps
        super().__init__(str(self.root).rstrip("/") or "/")

    def _path(self, key: str) -> Path:
        return self.root / checked(key)

    def fetch(self, key: str) -> tuple[bytes, ObjectInfo]:
        with self._open(key) as file:
            info = _info(key, os.fstat(file.fileno()))
            return self._came(file.read()), info

    def fetch_same(self, info: ObjectInfo) -> bytes | None:
        with self._open(info.key) as file:
            if _info(info.key, os.fstat(file.fileno())) != info:
                return None
            data = self._came(file.read(info.size_bytes + 1))  # a file that grows is not followed to its end
            same = _info(info.key, os.fstat(file.fileno())) == info
            return data if same and len(data) == info.size_bytes else None

    def stream(self, key: str) -> Iterator[bytes]:
        with self._open(key) as file:
            while block := file.read(STREAM_BYTES):
                yield self._came(block)

    def open_input(self, key: str, info: ObjectInfo | None = None) -> IO[bytes]:
        with _local_errors(self.locate(key)):
            file = self._opened(key)
            if info is not None and _info(key, os.fstat(file.fileno())) != info:
                file.close()
                raise StoreUnavailable(f"{self.locate(key)} changed while it was read.", "Run the same command again.")
            return file

    def head(self, key: str, size: int) -> bytes:
        with self._open(key) as file:
            return self._came(file.read(size))

    @contextmanager
    def _open(self, key: str) -> Iterator[IO[bytes]]:
        with _local_errors(self.locate(key)), self._opened(key) as file:
            yield file

    def _opened(self, key: str) -> IO[bytes]:
        """Open a file, but no pipe, which would wait for ever, nor a device, which may do anything."""
        path = self._path(key)
        stat = path.stat()
        _check_regular(stat)
        try:
            return open(path, "rb", opener=_open_file)
        except PermissionError as error:
            if mode_denies(stat, READ):
                raise ObjectDenied(f"No permission for {self.locate(key)}.", _MODE) from error
            raise

    def put(self, key: str, data: bytes) -> None:
        self.put_file(key, io.BytesIO(data))

    def put_file(self, key: str, file: IO[bytes]) -> None:
        with _local_errors(self.locate(key)), self._temporary(key, file) as temporary:
            temporary.replace(self._path(key))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with _local_errors(self.locate(key)), self._temporary(key, io.BytesIO(data)) as temporary:
            try:
                # atomic, and shows the whole file: a rename would replace an existing one, and O_EXCL would show a part
                self._path(key).hardlink_to(temporary)
            except FileExistsError:
                return False
            return True

    @contextmanager
    def _temporary(self, key: str, source: IO[bytes]) -> Iterator[Path]:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
        try:
            with temporary.open("xb") as file:
                source.seek(0)
                shutil.copyfileobj(source, file, STREAM_BYTES)
                file.flush()
                os.fsync(file.fileno())
                self._went(file.tell())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        with _local_errors(self.locate(key)):
            self._path(key).unlink(missing_ok=True)

    def info(self, key: str) -> ObjectInfo | None:
        try:
            with _local_errors(self.locate(key)):
                stat = self._path(key).stat()
        except StoreNotFound:
            return None
        if not S_ISREG(stat.st_mode):
            return None
        return _info(key, stat)

    def look(self, key: str) -> ArchiveEntry:
        path = self._path(key)
        try:
            with _local_errors(self.locate(key)):
                try:
                    return told(key, str(path), path.stat())
                except PermissionError:
                    if way_is_shut(str(path)):
                        return ArchiveEntry(key, None, Reason.UNREADABLE)
                    raise
                except OSError as error:
                    return unread(key, str(path), error)
        except StoreNotFound:
            return ArchiveEntry(key, None, None)

    def survey(self, survey: Survey) -> Iterator[ArchiveEntry]:
        return self._walk("", Walk(str(self.root), survey))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder = checked(prefix).rpartition("/")[0]
        for key, size, etag in self._walk(f"{folder}/" if folder else "", Walk(str(self.root / folder))):
            if size is None or etag is None or key.rpartition("/")[2].startswith(TEMPORARY_PREFIX):
                continue
            if key.startswith(prefix):
                yield ObjectInfo(key, size, etag)

    def _walk(self, lead: str, walk: Walk) -> Iterator[ArchiveEntry]:
        with _local_errors(f"a folder below {self.uri}"):  # its own name may be a patient's
            if not self.root.is_dir():
                raise StoreNotFound(f"There is no folder {self.root}.", "Check the path.")
            yield from walk.entries(lead)

    def folders(self) -> tuple[str, ...]:
        with _local_errors(self.uri):
            if not self.root.is_dir():
                return ()
            return tuple(sorted(path.name for path in self.root.iterdir() if path.is_dir()))

    def filesystem(self) -> tuple[pafs.FileSystem, str]:
        return pafs.LocalFileSystem(), str(self.root)


def _open_file(path: str, flags: int) -> int:
    """Open a regular file, without waiting on whatever may have just been put in its place."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    try:
        _check_regular(os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(stat: os.stat_result) -> None:
    if not S_ISREG(stat.st_mode):
        code = errno.EISDIR if S_ISDIR(stat.st_mode) else errno.ENOENT
        raise OSError(code, os.strerror(code))  # of the subclass of that code


def _info(key: str, stat: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, stat.st_size, local_etag(stat))


@contextmanager
def _local_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except IsADirectoryError as error:
        raise StoreNotFound(f"{uri} is a folder, not a file.", "Give a file's path.") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreNotFound(f"There is no file {uri}.", "Check the path.") from error
    except PermissionError as error:
        raise StoreDenied(f"No permission for {uri}.", _MODE) from error
    except OSError as error:
        if error.errno in NO_SUCH_PATH:
            raise StoreNotFound(f"{uri} can't be a file's path.", "Check the path.") from error
        if error.errno in _FULL:
            raise StoreUnavailable(
                f"The disk is full: {uri} was not written.", "Make room, then run the same command again."
            ) from error
        raise StoreUnavailable(f"{uri}: {error.strerror}.", "Fix that, then run the same command again.") from error
