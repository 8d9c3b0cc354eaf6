"""Which places an archive may name, for columns and for one row: absolute paths and ``s3://bucket/key``."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray.storage import Store, open_store

INVALID = "invalid:"
"""Stands before an entry that names no place, so that it can never be opened as one."""

LONGEST = 4096
"""Bytes of the longest path."""

LONGEST_KEY = 1024
"""Bytes of the longest S3 key."""

_PLACE = r"^(?:/[^\x00]*|s3://[A-Za-z0-9._-]{3,63}/[^/\x00][^\x00]*)$"
_BUCKET = r"^s3://[^/]+/"
_PARENT = r"(?:^|/)\.\.(?:/|$)"
_SCHEME = r"^[A-Za-z][A-Za-z0-9+.-]*://"

# `$` of Python's expressions also matches before a last line break; Arrow's does not.
_ONE_PLACE, _ONE_BUCKET, _ONE_PARENT = (re.compile(text.replace("$", r"\Z")) for text in (_PLACE, _BUCKET, _PARENT))


def are_places(uris: Any) -> Any:
    """Say which URIs can be opened (bool; null where there is none)."""
    good = pc.match_substring_regex(uris, _PLACE)
    good = pc.and_(good, pc.invert(pc.match_substring_regex(uris, _PARENT)))
    keys = pc.replace_substring_regex(uris, _BUCKET, "")
    longest = pc.if_else(pc.starts_with(uris, "s3://"), LONGEST_KEY, LONGEST)
    return pc.and_(good, pc.less_equal(pc.binary_length(keys), longest))


def is_place(uri: str) -> bool:
    """Say whether a row's URI can be opened: what `are_places` says, without a column for one value."""
    longest = LONGEST_KEY if uri.startswith("s3://") else LONGEST
    key = _ONE_BUCKET.sub("", uri)
    return bool(_ONE_PLACE.match(uri)) and not _ONE_PARENT.search(uri) and len(key.encode()) <= longest


def below(root: str, keys: Any) -> Any:
    """Return the URIs of keys below a root; one that leaves it, or can be no key, becomes `INVALID` and the key."""
    keys = pc.fill_null(keys, "")
    inside = pc.and_(pc.not_equal(keys, ""), pc.invert(pc.starts_with(keys, "/")))
    return _checked(pc.binary_join_element_wise(root.rstrip("/") + "/", keys, ""), keys, inside)


def resolve(entries: Any, folder: str) -> Any:
    """Return the URIs of a list's entries: absolute ones as they are, others below the list's folder."""
    entries = pc.fill_null(entries, "")
    absolute = pc.match_substring_regex(entries, r"^(?:/|s3://)")
    bare = pc.replace_substring_regex(entries, r"^(?:\./+)+", "")
    joined = pc.binary_join_element_wise(folder.rstrip("/") + "/", bare, "")
    known = pc.or_(absolute, pc.invert(pc.match_substring_regex(entries, _SCHEME)))
    named = pc.and_(known, pc.not_equal(bare, ""))
    return _checked(pc.if_else(absolute, entries, joined), entries, named)


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
    return _root("/"), uri.lstrip("/")


@lru_cache(maxsize=64)
def _root(uri: str) -> Store:
    return open_store(uri)
