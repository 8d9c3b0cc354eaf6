"""A prefix of a bucket as a store."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

import pyarrow.fs as pafs

from cxrgaze_ray import telemetry
from cxrgaze_ray.errors import StoreNotFound, StoreUnavailable, UserError
from cxrgaze_ray.storage.base import STREAM_BYTES, ArchiveEntry, ObjectInfo, Store, Survey, checked
from cxrgaze_ray.storage.ranges import RangeReader
from cxrgaze_ray.storage.retry import Transient, retry
from cxrgaze_ray.storage.s3_arrow import refreshing_filesystem
from cxrgaze_ray.storage.s3_client import LEAST_CHECKSUMS, checksums, client
from cxrgaze_ray.storage.s3_errors import code, s3_errors, told
from cxrgaze_ray.storage.s3_settings import s3_settings
from cxrgaze_ray.telemetry.table import S3_REQUESTS

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

_PART_BYTES = 8 * STREAM_BYTES
"""Bytes that `S3Store.stream` requests at a time, and requests again when a reply breaks off."""
_PAGE_KEYS = 1000
_PRESENT = {"PreconditionFailed", "412"}
_BEYOND_END = {"InvalidRange", "416"}
_UNKNOWN = {"NotImplemented", "501"}

T = TypeVar("T")


class _Part(NamedTuple):
    """Some bytes of an object, with its size and etag."""

    data: bytes
    size_bytes: int
    etag: str


class S3Store(Store):
    """A prefix of a bucket. Endpoint, region and credentials come from the standard AWS variables and profile.

    Transient failures (no connection, timeout, 429, 5xx, throttling, half a reply) are retried until
    `S3Settings.retry_s` after the first one, or after the last progress of a listing or stream; then comes
    StoreUnavailable. Refused credentials (StoreDenied) and absent objects are reported at once.

    Parameters
    ----------
    uri
        URI of the prefix.
    exact
        Take every slash of the URI literally, since to S3 ``a//`` and ``/a/`` are other prefixes than ``a/``.
        Otherwise slashes at both ends mean nothing, as people expect where we write.
    """

    kind = "s3"

    def __init__(self, uri: str, *, exact: bool = False) -> None:
        self.bucket, _, path = uri.removeprefix("s3://").partition("/")
        if not self.bucket:
            raise UserError(f"{uri} names no bucket.", "Write s3://bucket/prefix.")
        path = path if exact else path.strip("/")
        self._lead = path if not path or path.endswith("/") else f"{path}/"
        self.prefix = self._lead.removesuffix("/")
        self._patient = True
        s3_settings()  # a wrong option is reported before the work begins
        odd = self._lead.endswith("//") or self._lead == "/"  # the last slash is significant
        shown = self._lead if odd else self.prefix
        super().__init__(f"s3://{self.bucket}/{shown}" if shown else f"s3://{self.bucket}")

    def child(self, key: str) -> Store:
        child = type(self)(self.locate(checked(key)))
        child._patient = self._patient
        return child

    def without_retries(self) -> Store:
        hasty = copy.copy(self)
        hasty._patient = False
        return hasty

    def fetch(self, key: str) -> tuple[bytes, ObjectInfo]:
        def read(s3: S3Client) -> _Part:
            reply = s3.get_object(**self._object(key))
            return _whole(reply, self._came(reply["Body"].read()), reply["ContentLength"])

        part = self._ask(self.locate(key), read)
        return part.data, ObjectInfo(key, part.size_bytes, part.etag)

    def fetch_same(self, info: ObjectInfo) -> bytes | None:
        from botocore.exceptions import ClientError

        def read(s3: S3Client) -> bytes | None:
            try:
                reply = s3.get_object(**self._object(info.key), IfMatch=f'"{info.etag}"')
            except ClientError as error:
                if code(error) in _PRESENT:
                    return None
                raise
            # a server that ignores conditions sends another version
            if (reply["ContentLength"], reply["ETag"].strip('"')) != (info.size_bytes, info.etag):
                return None
            return _whole(reply, self._came(reply["Body"].read()), reply["ContentLength"]).data

        return self._ask(self.locate(info.key), read)

    def stream(self, key: str) -> Iterator[bytes]:
        part = self._part(key, 0, _PART_BYTES)
        etag, done = part.etag, 0
        while part.data:
            for start in range(0, len(part.data), STREAM_BYTES):
                yield part.data[start : start + STREAM_BYTES]
            done += len(part.data)
            if done >= part.size_bytes:
                return
            part = self._part(key, done, _PART_BYTES, etag)

    def open_input(self, key: str, info: ObjectInfo | None = None) -> IO[bytes]:
        found = info or self.info(key)
        if found is None:
            raise StoreNotFound(f"There is no object {self.locate(key)}.", "Check the URI.")
        return io.BufferedReader(
            RangeReader(lambda start, size: self._part(key, start, size, found.etag).data, found.size_bytes)
        )

    def head(self, key: str, size: int) -> bytes:
        return self._part(key, 0, size).data

    def put(self, key: str, data: bytes) -> None:
        self._put(key, data)

    def put_file(self, key: str, file: IO[bytes]) -> None:
        def send(s3: S3Client) -> None:
            file.seek(0)
            wanted = self._object(checked(key))
            s3.upload_fileobj(file, wanted.pop("Bucket"), wanted.pop("Key"), ExtraArgs=wanted)
            self._went(file.seek(0, io.SEEK_END))

        self._ask(self.locate(key), send)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._put(key, data, IfNoneMatch="*")

    def _put(self, key: str, data: bytes, **condition: Any) -> bool:
        """Write an object; False if the condition forbids it."""
        from botocore.exceptions import ClientError

        def write(s3: S3Client) -> bool:
            try:
                s3.put_object(**self._object(checked(key)), Body=data, **condition)
            except ClientError as error:
                if condition and code(error) in _PRESENT:
                    return False
                if code(error) in _UNKNOWN:
                    raise self._unknown(error, bool(condition)) from error
                raise
            self._went(len(data))
            return True

        return self._ask(self.locate(key), write)

    def _unknown(self, error: ClientError, conditional: bool) -> StoreUnavailable:
        """Return the error for a put that uses something the store does not support."""
        asked = checksums()["request_checksum_calculation"].lower()
        if asked != LEAST_CHECKSUMS:  # that may be the reason too, so the store's own words decide
            kind, hint = "this put", "It may not support checksum trailers: unset AWS_REQUEST_CHECKSUM_CALCULATION."
        elif conditional:
            kind, hint = "conditional puts", "Use a store that supports them: nothing can be committed safely without."
        else:
            kind, hint = "puts", "Check that the endpoint (AWS_ENDPOINT_URL) is a store that can be written."
        return StoreUnavailable(f"The store of {self.uri} refuses {kind} ({told(error)}).", hint)

    def delete(self, key: str) -> None:
        self._ask(self.locate(key), lambda s3: s3.delete_object(**self._object(checked(key))))

    def info(self, key: str) -> ObjectInfo | None:
        try:
            reply = self._ask(self.locate(key), lambda s3: s3.head_object(**self._object(key)))
        except StoreNotFound:
            return None
        return ObjectInfo(key, reply["ContentLength"], reply["ETag"].strip('"'))

    def look(self, key: str) -> ArchiveEntry:
        if not {".", ".."} & set(key.split("/")):
            return super().look(key)
        # Amazon has such keys; others answer with 400, but so they do to a HEAD whose credentials are too old.
        first = next(self._objects(key), None)
        return ArchiveEntry(*first) if first is not None and first.key == key else ArchiveEntry(key, None, None)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (info for info in self._objects(prefix) if not _is_marker(info))

    def survey(self, survey: Survey) -> Iterator[ArchiveEntry]:
        for info in self._objects():
            if _is_marker(info):
                survey.folder_markers += 1
            else:
                yield ArchiveEntry(*info)

    def _objects(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for page in self._pages(Prefix=self._lead + prefix):
            for item in page.get("Contents", []):
                if not item["Key"].startswith(self._lead):  # some servers take // for /
                    raise UserError(f"To its store, {self.uri} is another prefix.", "Write it without doubled slashes.")
                yield ObjectInfo(item["Key"].removeprefix(self._lead), item["Size"], item["ETag"].strip('"'))

    def folders(self) -> tuple[str, ...]:
        pages = self._pages(Prefix=self._lead, Delimiter="/")
        found = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
        return tuple(sorted(prefix.removeprefix(self._lead).rstrip("/") for prefix in found))

    def filesystem(self) -> tuple[pafs.FileSystem, str]:
        return refreshing_filesystem(), f"{self.bucket}/{self.prefix}".rstrip("/")

    def _object(self, key: str) -> dict[str, Any]:
        return {"Bucket": self.bucket, "Key": self._lead + key, **_payer()}

    def _ask(self, uri: str, request: Callable[[S3Client], T]) -> T:
        """Make a request within the budget, reading the reply's body included."""

        def attempt() -> T:
            telemetry.record(S3_REQUESTS)
            with s3_errors(uri):
                return request(client(self._patient))

        return retry(attempt, s3_settings().retry_s if self._patient else 0.0)

    def _part(self, key: str, start: int, size: int, etag: str | None = None) -> _Part:
        """Read up to `size` bytes from `start` on; with an etag, from that version only."""
        from botocore.exceptions import ClientError

        wanted: dict[str, Any] = {"Range": f"bytes={start}-{start + size - 1}"}
        if etag is not None:
            wanted["IfMatch"] = f'"{etag}"'

        def read(s3: S3Client) -> _Part:
            try:
                reply = s3.get_object(**self._object(key), **wanted)
            except ClientError as error:
                if code(error) in _BEYOND_END and start == 0:  # an empty object has no first byte
                    return _Part(b"", 0, "")
                if code(error) in _PRESENT | _BEYOND_END:
                    raise self._changed(key) from error
                raise
            # a server that ignores ranges sends the whole object
            data = self._came(reply["Body"].read(size))
            if etag not in {None, reply["ETag"].strip('"')} or (start and "ContentRange" not in reply):
                raise self._changed(key)
            return _whole(reply, data, min(size, reply["ContentLength"]))

        return self._ask(self.locate(key), read)

    def _changed(self, key: str) -> StoreUnavailable:
        return StoreUnavailable(f"{self.locate(key)} changed while it was read.", "Run the same command again.")

    def _pages(self, **wanted: Any) -> Iterator[ListObjectsV2OutputTypeDef]:
        """Yield a listing's pages; one that breaks off is requested again."""

        def read(s3: S3Client) -> ListObjectsV2OutputTypeDef:
            page = s3.list_objects_v2(Bucket=self.bucket, MaxKeys=_PAGE_KEYS, **wanted, **_payer())
            if "IsTruncated" not in page:
                raise Transient(f"S3 gave half a listing of {self.uri}.", "Run the same command again.")
            return page

        while True:
            page = self._ask(self.uri, read)
            yield page
            if not page["IsTruncated"]:
                return
            wanted["ContinuationToken"] = page["NextContinuationToken"]


def _is_marker(info: ObjectInfo) -> bool:
    """Return whether an object only stands for a folder, as consoles and sync tools write them."""
    return info.size_bytes == 0 and (info.key.endswith("/") or not info.key)


def _payer() -> dict[str, Any]:
    return {"RequestPayer": "requester"} if s3_settings().requester_pays else {}


def _whole(reply: Any, data: bytes, length: int) -> _Part:
    """Return the bytes read, with the object's size; Transient if some are missing."""
    if len(data) != length:
        raise Transient("S3 gave half an object.", "Run the same command again.")
    size = str(reply.get("ContentRange", "")).rpartition("/")[2] or reply["ContentLength"]
    return _Part(data, int(size), reply["ETag"].strip('"'))
