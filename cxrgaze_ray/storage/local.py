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
from stat import S_ISREG
from typing import IO

import pyarrow.fs as pafs

from cxrgaze_ray.errors import StoreDenied, StoreNotFound, StoreUnavailable
from cxrgaze_ray.storage.base import STREAM_BYTES, ObjectInfo, Store, checked

TEMPORARY_PREFIX = ".cxrgaze-tmp-"
_NO_SUCH_PATH = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class LocalStore(Store):
    """A folder. Writes go to a temporary file beside the target, then are renamed or linked into place."""

    def __init__(self, uri: str) -> None:
        path = Path(uri).expanduser()
        self.root = path.resolve() if ".." in path.parts else path.absolute()  # a URI holds no way up
        super().__init__(str(self.root))

    def _path(self, key: str) -> Path:
        return self.root / checked(key)

    def fetch(self, key: str) -> tuple[bytes, ObjectInfo]:
        with _local_errors(self.locate(key)), self._path(key).open("rb") as file:
            stat = os.fstat(file.fileno())
            return file.read(), ObjectInfo(key, stat.st_size, _local_etag(stat))

    def stream(self, key: str) -> Iterator[bytes]:
        with _local_errors(self.locate(key)), self._path(key).open("rb") as file:
            while block := file.read(STREAM_BYTES):
                yield block

    def open_input(self, key: str) -> IO[bytes]:
        with _local_errors(self.locate(key)):
            return self._path(key).open("rb")

    def head(self, key: str, size: int) -> bytes:
        with _local_errors(self.locate(key)), self._path(key).open("rb") as file:
            return file.read(size)

    def put(self, key: str, data: bytes) -> None:
        self.put_file(key, io.BytesIO(data))

    def put_file(self, key: str, file: IO[bytes]) -> None:
        with _local_errors(self.locate(key)), self._temporary(key, file) as temporary:
            temporary.replace(self._path(key))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with _local_errors(self.locate(key)), self._temporary(key, io.BytesIO(data)) as temporary:
            try:
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
        return ObjectInfo(key, stat.st_size, _local_etag(stat))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        checked(prefix)
        if not self.root.is_dir():
            raise StoreNotFound(f"There is no folder {self.root}.", "Check the path.")
        folder = prefix.rpartition("/")[0]
        with _local_errors(f"a folder below {self.uri}"):  # its own name may be a patient's
            for info in self._walk(str(self.root / folder), f"{folder}/" if folder else ""):
                if info.key.startswith(prefix):
                    yield info

    def _walk(self, folder: str, lead: str) -> Iterator[ObjectInfo]:
        """Walk a folder whose keys start with `lead`, in key order."""
        try:
            with os.scandir(folder) as entries:
                # A folder sorts as its name with a slash, so that local order equals S3's key order.
                ordered = sorted((entry.name + "/" if _is_folder(entry) else entry.name, entry) for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return
        for name, entry in ordered:
            if name.endswith("/"):
                if not (entry.is_symlink() and _is_loop(entry.path, folder)):
                    yield from self._walk(entry.path, lead + name)
            elif not name.startswith(TEMPORARY_PREFIX) and (stat := _stat_file(entry)):
                yield ObjectInfo(lead + name, stat.st_size, _local_etag(stat))

    def folders(self) -> tuple[str, ...]:
        if not self.root.is_dir():
            return ()
        return tuple(sorted(path.name for path in self.root.iterdir() if path.is_dir()))

    def filesystem(self) -> tuple[pafs.FileSystem, str]:
        return pafs.LocalFileSystem(), str(self.root)


def _is_loop(link: str, folder: str) -> bool:
    """Say whether a link leads to a folder that it lies in."""
    return os.path.commonpath([target := os.path.realpath(link), os.path.realpath(folder)]) == target


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno in _NO_SUCH_PATH:  # a link to itself
            return False
        raise


def _stat_file(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return what is known of a regular file; None for other things, and if it went meanwhile."""
    try:
        return stat if S_ISREG((stat := entry.stat()).st_mode) else None
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno in _NO_SUCH_PATH:
            return None
        raise


def _local_etag(stat: os.stat_result) -> str:
    return f"{stat.st_size:x}-{stat.st_mtime_ns:x}"


@contextmanager
def _local_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise StoreNotFound(f"There is no file {uri}.", "Check the path.") from error
    except PermissionError as error:
        raise StoreDenied(f"No permission for {uri}.", "Check owner and mode of it and its folder.") from error
    except OSError as error:
        if error.errno in _NO_SUCH_PATH:
            raise StoreNotFound(f"There can be no file {uri}.", "Check the path.") from error
        if error.errno in _FULL:
            raise StoreUnavailable(
                f"The disk is full: {uri} was not written.", "Make room, then run the same command again."
            ) from error
        raise StoreUnavailable(f"{uri}: {error.strerror}.", "Mend that, then run the same command again.") from error
