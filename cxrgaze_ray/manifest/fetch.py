"""Fetch a listed file, as it was listed. No message names its place: a path may hold a patient's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cxrgaze_ray.errors import EnvironmentFault, RadiographError, StoreNotFound
from cxrgaze_ray.manifest.places import is_place, open_place
from cxrgaze_ray.schemas import Reason

MAX_FILE_BYTES = 2**29
"""Largest file that is fetched: four times an uncompressed image of `radiograph.bounds.MAX_PIXELS`."""


def fetch_listed(row: dict[str, Any]) -> bytes:
    """Fetch the bytes of a listed file.

    Parameters
    ----------
    row
        uri, size_bytes and etag of a manifest row.

    Raises
    ------
    RadiographError
        INVALID_URI, MISSING, EMPTY_FILE or TOO_LARGE without asking for it; MISSING if it is gone, CHANGED if it is
        not the file that was listed.
    EnvironmentFault
        If the store can't be read: an outage is never a row.
    """
    _check(row["uri"], row["size_bytes"])
    store, key = open_place(row["uri"])
    with without_places(f"File {row.get('image_id') or ''} of the archive"):
        try:
            data, info = store.fetch(key)
        except StoreNotFound:
            raise RadiographError(Reason.MISSING, "The file was there when it was listed, and is gone.") from None
    if (info.size_bytes, info.etag) != (row["size_bytes"], row["etag"]):
        raise RadiographError(Reason.CHANGED, "The file is not the one that was listed.")
    return data


def _check(uri: str, size: int | None) -> None:
    if not is_place(uri):
        raise RadiographError(Reason.INVALID_URI, "The entry names neither a path nor an s3:// object.")
    if size is None:
        raise RadiographError(Reason.MISSING, "The list names the file, and it is not there.")
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
