"""Which places an archive may name, for columns and for one row.

A place is an absolute path or ``s3://bucket/key``, whose key S3 takes as it is. A path whose bytes are no UTF-8 is
written as a ``file://`` URI, percent-encoded: no path begins like that, and it leads back to the same bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray.storage import Store, joined, open_store

_BYTES = "file://"

INVALID = "invalid:"
"""Stands before an entry that names no place, so that it can never be opened as one."""

LONGEST = 4096
"""Bytes of the longest path."""

LONGEST_KEY = 1024
"""Bytes of the longest S3 key."""

_PLACE = r"^(?:/[^\x00]*|s3://[A-Za-z0-9._-]{3,63}/[^\x00]+)$"
_BUCKET = r"^s3://[^/]+/"
_PARENT = r"(?:^|/)\.\.(?:/|$)"
_SCHEME = r"^[A-Za-z][A-Za-z0-9+.-]*://"

# `$` of Python's expressions also matches before a last line break; Arrow's does not.
_ONE_PLACE, _ONE_BUCKET, _ONE_PARENT = (re.compile(text.replace("$", r"\Z")) for text in (_PLACE, _BUCKET, _PARENT))


def are_places(uris: Any) -> Any:
    """Say which URIs can be opened (bool; null where there is none)."""
    good = pc.match_substring_regex(uris, _PLACE)
    in_buckets = pc.starts_with(uris, "s3://")
    good = pc.and_(good, pc.or_(in_buckets, pc.invert(pc.match_substring_regex(uris, _PARENT))))
    keys = pc.replace_substring_regex(uris, _BUCKET, "")
    longest = pc.if_else(in_buckets, LONGEST_KEY, LONGEST)
    good = pc.and_(good, pc.less_equal(pc.binary_length(keys), longest))
    odd = pc.fill_null(pc.starts_with(uris, _BYTES), False)
    if not pc.any(odd).as_py():
        return good
    return pc.if_else(odd, pa.array([_is_of_bytes(uri or "") for uri in uris.to_pylist()]), good)


def is_place(uri: str) -> bool:
    """Say whether a row's URI can be opened: what `are_places` says, without a column for one value."""
    if uri.startswith(_BYTES):
        return _is_of_bytes(uri)
    in_bucket = uri.startswith("s3://")
    fits = len(_ONE_BUCKET.sub("", uri).encode()) <= (LONGEST_KEY if in_bucket else LONGEST)
    return bool(_ONE_PLACE.match(uri)) and (in_bucket or not _ONE_PARENT.search(uri)) and fits


def place_of_path(path: str) -> str:
    """Return the place of an absolute path as Python holds it, whatever its bytes are."""
    return path if _is_text(path) else _BYTES + quote_from_bytes(os.fsencode(path))


def path_of_place(place: str) -> str:
    """Return what `place_of_path` was given; whatever else names a place is as it is."""
    return _decoded(place) if _is_of_bytes(place) else place


def _decoded(uri: str) -> str:
    return os.fsdecode(unquote_to_bytes(uri.removeprefix(_BYTES)))


def _is_of_bytes(uri: str) -> bool:
    """Say whether a URI is the one that `place_of_path` gives a path which needs it, and no other spelling."""
    if not uri.startswith(f"{_BYTES}/"):
        return False
    path = _decoded(uri)
    sound = "\0" not in path and not _ONE_PARENT.search(path) and len(os.fsencode(path)) <= LONGEST
    return sound and not _is_text(path) and place_of_path(path) == uri


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8 are held as lone surrogates
        return False
    return True


def found(root: str, keys: Sequence[str]) -> tuple[pa.Array, pa.Array]:
    """Return keys as text and the URIs of what a store itself lists below its root: they need no check."""
    try:
        texts = pa.array(keys, pa.string())
        return texts, _under(root, texts)
    except UnicodeEncodeError:
        # As a URI of three slashes, a relative key can be no other file's: a folder's keys have no empty parts.
        texts = pa.array([key if _is_text(key) else place_of_path(f"/{key}") for key in keys])
        return texts, pa.array([place_of_path(joined(root, key)) for key in keys])


def _under(root: str, keys: Any) -> Any:
    if _is_text(root):
        return pc.binary_join_element_wise(joined(root, ""), keys, "")
    return pa.array([place_of_path(joined(root, key)) for key in keys.to_pylist()], pa.string())


def below(root: str, keys: Any) -> Any:
    """Return the URIs of keys below a root; one that leaves it, or can be no key, becomes `INVALID` and the key."""
    keys = pc.fill_null(keys, "")
    leaves = pc.or_(pc.starts_with(keys, "/"), pc.match_substring_regex(keys, _PARENT))
    return _checked(_under(root, keys), keys, pc.invert(pc.or_(leaves, pc.equal(keys, ""))))


def resolve(entries: Any, folder: str) -> Any:
    """Return the URIs of a list's entries: absolute ones as they are, others below the list's folder."""
    entries = pc.fill_null(entries, "")
    absolute = pc.match_substring_regex(entries, rf"^(?:/|s3://|{_BYTES})")
    bare = pc.replace_substring_regex(entries, r"^(?:\./+)+", "")
    relative = _under(folder, bare)
    leaves = pc.or_(pc.match_substring_regex(entries, _SCHEME), pc.match_substring_regex(entries, _PARENT))
    named = pc.and_(pc.or_(absolute, pc.invert(leaves)), pc.not_equal(bare, ""))
    return _checked(pc.if_else(absolute, entries, relative), entries, named)


def _checked(uris: Any, entries: Any, good: Any) -> Any:
    shown = pc.binary_join_element_wise(INVALID, pc.utf8_slice_codeunits(entries, 0, LONGEST), "")
    return pc.if_else(pc.and_(good, are_places(uris)), uris, shown)


def are_invalid(uris: Any) -> pa.Array:
    """Say which rows name no place."""
    return pc.starts_with(uris, INVALID)


def open_place(uri: str) -> tuple[Store, str]:
    """Return the store and the key of a place; unlike a prefix, an S3 key keeps every slash."""
    if uri.startswith("s3://"):
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return _root(f"s3://{bucket}"), key
    return _root("/"), path_of_place(uri).lstrip("/")


@lru_cache(maxsize=64)
def _root(uri: str) -> Store:
    return open_store(uri)
