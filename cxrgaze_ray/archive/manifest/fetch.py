"""Fetch a listed file, as it was listed. No message names its place: a path may hold a patient's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cxrgaze_ray.archive.manifest.places import is_place, open_place
from cxrgaze_ray.errors import EnvironmentFault, ObjectDenied, RadiographError, StoreDenied, StoreNotFound
from cxrgaze_ray.schemas import Reason
from cxrgaze_ray.storage import ObjectInfo

MAX_FILE_BYTES = 2**29
"""Largest file that is fetched: four times an uncompressed image of `radiograph.bounds.MAX_PIXELS`."""

_UNREAD: dict[str, str] = {
    Reason.MISSING: "The file is listed, and it is not there.",
    Reason.UNREADABLE: "The file is there, and may not be read.",
    Reason.LINK_OUTSIDE: "The link leads out of the archive, and was not followed.",
    Reason.NOT_AN_IMAGE: "It is a folder, a pipe, a socket or a device, and was not opened.",
}
"""What a row without a size stands for, by its etag; without one, the file is missing."""

_POINTERS = (b"/annex/objects/", b"version https://git-lfs.github.com/spec/")
"""How a file begins that only stands for one which git-annex or Git LFS has not fetched."""


def fetch_listed(row: dict[str, Any]) -> bytes:
    """Fetch the bytes of a listed file.

    Parameters
    ----------
    row
        uri, size_bytes and etag of a manifest row.

    Raises
    ------
    RadiographError
        INVALID_URI, EMPTY_FILE, TOO_LARGE, or what the listing found in its place, without asking for it; MISSING if
        it is gone, or was never fetched, CHANGED if it is not the file that was listed, UNREADABLE if that is the
        file's own matter.
    EnvironmentFault
        If the store can't be read: an outage is never a row. S3's AccessDenied is one, even of a single object: it
        says the same of a role that was revoked.
    """
    _check(row["uri"], row["size_bytes"], row["etag"])
    store, key = open_place(row["uri"])
    with without_places(f"File {row.get('image_id') or ''} of the archive"):
        try:
            data = store.fetch_same(ObjectInfo(key, row["size_bytes"], row["etag"]))
        except StoreNotFound:
            raise RadiographError(Reason.MISSING, "The file was there when it was listed, and is gone.") from None
        except ObjectDenied:
            raise RadiographError(Reason.UNREADABLE, _UNREAD[Reason.UNREADABLE]) from None
        except StoreDenied as denied:
            denied.hint += " If it is this file alone, score a list that leaves it out."
            raise
    if data is None:
        raise RadiographError(Reason.CHANGED, "The file is not the one that was listed.")
    if data.startswith(_POINTERS):
        raise RadiographError(Reason.MISSING, "Git-annex or Git LFS has not fetched the file that stands here.")
    return data


def _check(uri: str, size: int | None, etag: str | None) -> None:
    reason = etag if size is None and etag in _UNREAD else Reason.MISSING
    if reason == Reason.MISSING and not is_place(uri):
        raise RadiographError(Reason.INVALID_URI, "The entry names neither a path nor an s3:// object.")
    if size is None:
        raise RadiographError(reason, _UNREAD[reason])
    if size == 0:
        raise RadiographError(Reason.EMPTY_FILE, "The file is empty.")
    if size > MAX_FILE_BYTES:
        raise RadiographError(Reason.TOO_LARGE, f"The file has more than {MAX_FILE_BYTES // 2**20} MiB.")


@contextmanager
def without_places(subject: str) -> Iterator[None]:
    """Say an outage again without the path or key, which the store's own message and its cause name."""
    try:
        yield
    except EnvironmentFault as fault:
        raise type(fault)(f"{' '.join(subject.split())} can't be read ({_why(fault)}).", fault.hint) from None


def _why(fault: EnvironmentFault) -> str:
    """Name the cause by its code, which says nothing of the file: of S3, of the system, or the exception's name."""
    cause = fault.__cause__
    code = (getattr(cause, "response", None) or {}).get("Error", {}).get("Code")
    return str(code or getattr(cause, "strerror", None) or type(cause or fault).__name__)
