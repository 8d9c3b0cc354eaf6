"""The URIs that name a place: a local path, or ``s3://bucket/prefix``."""

from __future__ import annotations

import re
from pathlib import Path

from cxrgaze_ray.errors import UserError

S3 = "s3://"
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*:/+|s3:)", re.IGNORECASE)
_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,63}")
_USE = f"Use a local path or {S3}bucket/prefix."


def check(uri: str) -> None:
    """Raise UserError for a URI that is neither a local path nor a bucket's prefix: it would name a strange folder."""
    if not uri.strip() or "\0" in uri:
        raise UserError("The path or URI is empty.", _USE)
    if uri.startswith(S3):
        _check_bucket(uri.removeprefix(S3).partition("/")[0])
    elif found := _SCHEME.match(uri):
        raise UserError(f"{found[0]} is not supported.", _USE)
    elif uri.startswith("~"):
        _check_home(uri)


def _check_bucket(name: str) -> None:
    if not name:
        raise UserError(f"{S3} names no bucket.", f"Write {S3}bucket/prefix.")
    if not _BUCKET.fullmatch(name):
        raise UserError(f"{name!r} can't be a bucket's name.", f"Write {S3}bucket/prefix.")


def _check_home(uri: str) -> None:
    try:
        Path(uri).expanduser()
    except RuntimeError as error:
        raise UserError(f"{uri} begins with a user who has no home here.", "Write the whole path.") from error


def names_object(uri: str) -> bool:
    """Return whether a URI can name a file: a bucket, ``/``, ``.``, ``..`` and ``~`` are folders by their form."""
    path = uri.removeprefix(S3).partition("/")[2] if uri.startswith(S3) else uri
    folder, _, name = path.rstrip("/").rpartition("/")
    return name not in {"", ".", ".."} and not (path == uri and not folder and name.startswith("~"))
