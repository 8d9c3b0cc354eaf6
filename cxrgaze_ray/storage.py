"""One Store for local folders and ``s3://`` prefixes: everything cxrgaze reads or writes goes through it."""

from __future__ import annotations

import errno
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.fs as pafs

from cxrgaze_ray.errors import StoreDenied, StoreNotFound, StoreUnavailable, UserError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TEMPORARY_PREFIX = ".cxrgaze-tmp-"
STREAM_BYTES = 2**20
"""Block of `Store.stream`."""
_NO_SUCH_PATH = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})
_DENIED_CODES = {
    "403", "AccessDenied", "AllAccessDisabled", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId",
    "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired", "Unauthorized", "401",
}  # fmt: skip


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
        return open_store(self.locate(key))

    def locate(self, key: str) -> str:
        """Return the absolute URI of a key."""
        return f"{self.uri.rstrip('/')}/{_checked(key)}"

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
        """Yield an object's bytes in blocks of at most `STREAM_BYTES`; StoreNotFound if it is not there."""

    @abstractmethod
    def head(self, key: str, size: int) -> bytes:
        """Return an object's first `size` bytes; StoreNotFound if it is not there."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write an object whole, replacing what was there. Readers see the old or the new bytes."""

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
        """Return the Arrow filesystem and the root's path on it, for Parquet readers and Ray."""


def _checked(key: str) -> str:
    if key.startswith("/") or ".." in key.split("/"):
        raise UserError("A key leaves its store.")
    return key


class LocalStore(Store):
    """A folder. Writes go to a temporary file beside the target, then are renamed or linked into place."""

    def __init__(self, uri: str) -> None:
        path = Path(uri).expanduser()
        self.root = path.resolve() if ".." in path.parts else path.absolute()  # a URI holds no way up
        super().__init__(str(self.root))

    def _path(self, key: str) -> Path:
        return self.root / _checked(key)

    def fetch(self, key: str) -> tuple[bytes, ObjectInfo]:
        with _local_errors(self.locate(key)), self._path(key).open("rb") as file:
            stat = os.fstat(file.fileno())
            return file.read(), ObjectInfo(key, stat.st_size, _local_etag(stat))

    def stream(self, key: str) -> Iterator[bytes]:
        with _local_errors(self.locate(key)), self._path(key).open("rb") as file:
            while block := file.read(STREAM_BYTES):
                yield block

    def head(self, key: str, size: int) -> bytes:
        with _local_errors(self.locate(key)), self._path(key).open("rb") as file:
            return file.read(size)

    def put(self, key: str, data: bytes) -> None:
        with _local_errors(self.locate(key)), self._temporary(key, data) as temporary:
            temporary.replace(self._path(key))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with _local_errors(self.locate(key)), self._temporary(key, data) as temporary:
            try:
                self._path(key).hardlink_to(temporary)
            except FileExistsError:
                return False
            return True

    @contextmanager
    def _temporary(self, key: str, data: bytes) -> Iterator[Path]:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
        try:
            with temporary.open("xb") as file:
                file.write(data)
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
        _checked(prefix)
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
        raise StoreDenied(f"No permission for {uri}.", "Check the file's owner and mode.") from error
    except OSError as error:
        if error.errno in _NO_SUCH_PATH:
            raise StoreNotFound(f"There can be no file {uri}.", "Check the path.") from error
        raise StoreUnavailable(
            f"{uri}: {error.strerror}.", "Check the disk, then run the same command again."
        ) from error


class S3Store(Store):
    """A prefix of a bucket. Endpoint, region and credentials come from the standard AWS variables and profile."""

    def __init__(self, uri: str) -> None:
        self.bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not self.bucket:
            raise UserError(f"{uri} names no bucket.", "Write s3://bucket/prefix.")
        self.prefix = prefix.strip("/")
        super().__init__(f"s3://{self.bucket}/{self.prefix}")

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{_checked(key)}" if self.prefix else _checked(key)

    def fetch(self, key: str) -> tuple[bytes, ObjectInfo]:
        with _s3_errors(self.locate(key)):
            reply = _client().get_object(Bucket=self.bucket, Key=self._key(key))
            data = bytes(reply["Body"].read())
        return data, ObjectInfo(key, reply["ContentLength"], reply["ETag"].strip('"'))

    def stream(self, key: str) -> Iterator[bytes]:
        with _s3_errors(self.locate(key)):
            reply = _client().get_object(Bucket=self.bucket, Key=self._key(key))
            yield from reply["Body"].iter_chunks(STREAM_BYTES)

    def head(self, key: str, size: int) -> bytes:
        from botocore.exceptions import ClientError

        with _s3_errors(self.locate(key)):
            try:
                reply = _client().get_object(Bucket=self.bucket, Key=self._key(key), Range=f"bytes=0-{size - 1}")
            except ClientError as error:
                if _code(error) in {"InvalidRange", "416"}:  # an empty object has no first byte
                    return b""
                raise
            return bytes(reply["Body"].read(size))

    def put(self, key: str, data: bytes) -> None:
        with _s3_errors(self.locate(key)):
            _client().put_object(Bucket=self.bucket, Key=self._key(key), Body=data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        with _s3_errors(self.locate(key)):
            try:
                _client().put_object(Bucket=self.bucket, Key=self._key(key), Body=data, IfNoneMatch="*")
            except ClientError as error:
                if _code(error) in {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}:
                    return False
                raise
        return True

    def delete(self, key: str) -> None:
        with _s3_errors(self.locate(key)):
            _client().delete_object(Bucket=self.bucket, Key=self._key(key))

    def info(self, key: str) -> ObjectInfo | None:
        try:
            with _s3_errors(self.locate(key)):
                reply = _client().head_object(Bucket=self.bucket, Key=self._key(key))
        except StoreNotFound:
            return None
        return ObjectInfo(key, reply["ContentLength"], reply["ETag"].strip('"'))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        root = f"{self.prefix}/" if self.prefix else ""
        with _s3_errors(self.uri):
            pages = _client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=root + _checked(prefix)):
                for item in page.get("Contents", []):
                    if not item["Key"].endswith("/"):
                        yield ObjectInfo(item["Key"].removeprefix(root), item["Size"], item["ETag"].strip('"'))

    def folders(self) -> tuple[str, ...]:
        root = f"{self.prefix}/" if self.prefix else ""
        with _s3_errors(self.uri):
            pages = _client().get_paginator("list_objects_v2")
            replies = list(pages.paginate(Bucket=self.bucket, Prefix=root, Delimiter="/"))
        found = [item["Prefix"] for page in replies for item in page.get("CommonPrefixes", [])]
        return tuple(sorted(prefix.removeprefix(root).rstrip("/") for prefix in found))

    def filesystem(self) -> tuple[pafs.FileSystem, str]:
        return _arrow_s3(), f"{self.bucket}/{self.prefix}".rstrip("/")


@cache
def _session() -> Any:
    import boto3  # 0.2 s that local work and --help do not pay

    return boto3.Session()


@cache
def _client() -> S3Client:
    from botocore.config import Config

    retries: Any = {"mode": "standard", "total_max_attempts": 5}
    config = Config(retries=retries, connect_timeout=5, read_timeout=60, max_pool_connections=32)
    client: S3Client = _session().client("s3", config=config)
    return client


def _arrow_s3() -> pafs.FileSystem:
    """Build Arrow's S3 filesystem from the same configuration as boto3, which reads more variables."""
    with _s3_errors("s3://"):
        credentials = _session().get_credentials()
    options: dict[str, Any] = {"region": _session().region_name or "us-east-1"}
    endpoint = _client().meta.endpoint_url
    if "amazonaws.com" not in endpoint:
        scheme, _, host = endpoint.partition("://")
        options |= {"endpoint_override": host, "scheme": scheme}
    if credentials is not None:
        frozen = credentials.get_frozen_credentials()
        options |= {"access_key": frozen.access_key, "secret_key": frozen.secret_key}
        if frozen.token:
            options["session_token"] = frozen.token
    return pafs.S3FileSystem(**options)


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _s3_errors(uri: str) -> Iterator[None]:
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
        TokenRetrievalError,
    )
    from urllib3.exceptions import HTTPError

    again = "Check the endpoint (AWS_ENDPOINT_URL) and run the same command again."
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound, TokenRetrievalError) as error:
        raise StoreDenied(
            f"No usable AWS credentials for {uri}.",
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
        ) from error
    except ClientError as error:
        code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchBucket":
            raise StoreNotFound(f"There is no bucket for {uri}.", "Create it, or check the name.") from error
        if code in {"NoSuchKey", "404", "NotFound"}:
            raise StoreNotFound(f"There is no object {uri}.", "Check the URI.") from error
        if code in _DENIED_CODES or status in {401, 403}:
            raise StoreDenied(
                f"S3 denied access to {uri} ({code}).", "Check the credentials and the bucket's policy."
            ) from error
        raise StoreUnavailable(f"S3 answered {code or status} for {uri}.", again) from error
    except (BotoCoreError, HTTPError) as error:
        raise StoreUnavailable(f"S3 is not reachable for {uri} ({type(error).__name__}).", again) from error


def open_store(uri: str) -> Store:
    """Open the store at a URI.

    Parameters
    ----------
    uri
        ``s3://bucket/prefix`` or a local path. Nothing is created or contacted yet.

    Raises
    ------
    UserError
        If the URI has another scheme, or names no bucket.
    """
    if uri.startswith("s3://"):
        return S3Store(uri)
    if "://" in uri:
        raise UserError(f"{uri.partition('://')[0]}:// is not supported.", "Use a local path or s3://bucket/prefix.")
    return LocalStore(uri)


def open_parent(uri: str) -> tuple[Store, str]:
    """Split an object's URI into its parent's store and its key there."""
    parent, _, name = uri.rstrip("/").rpartition("/")
    return open_store(parent or ("/" if uri.startswith("/") else ".")), name
