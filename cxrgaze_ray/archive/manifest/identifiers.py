"""Identifiers of rows: their form is checked, and outside de-identified layouts they become keyed hashes.

A raw identifier is never part of a path, a key or a URI that is opened: it only names a row.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray.archive.identities import Identities, Kind
from cxrgaze_ray.archive.manifest.columns import flat, map_distinct

_FORM = r"^[0-9A-Za-z_-][0-9A-Za-z._-]{0,63}$"
_COLUMNS: dict[str, Kind] = {"image_id": "image", "subject_id": "patient", "study_id": "study"}
_HEX = 32

ID_NAMES = tuple(_COLUMNS)


def are_ids(column: Any) -> Any:
    """Say which identifiers have the form of one: 1 to 64 letters, digits, dots, dashes (bool; null stays null)."""
    return pc.match_substring_regex(column, _FORM)


def short_hash(text: str) -> str:
    """Return the first 32 hex digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:_HEX]


def name_rows(raw: dict[str, Any], paths: Any, identities: Identities) -> tuple[dict[str, pa.Array], int]:
    """Return the identifiers that rows carry.

    Parameters
    ----------
    raw
        image_id, subject_id and study_id as the archive gives them; nulls where it does not.
    paths
        What an image without an id is known by: its path in the archive, or its URI.
    identities
        Keeps identifiers, or makes keyed hashes of them.

    Returns
    -------
    dict of pa.Array
        The same columns. Kept ids of an odd form are hashed; an image without an id has the hash of its path.
    int
        Rows with an identifier of an odd form.
    """
    odd: Any = pa.scalar(False)
    columns = {}
    for name, kind in _COLUMNS.items():
        odd = pc.or_(odd, pc.invert(pc.fill_null(are_ids(raw[name]), True)))
        columns[name] = name_ids(kind, raw[name], identities)
    columns["image_id"] = pc.coalesce(columns["image_id"], _of_paths(raw["image_id"], paths, identities))
    return columns, pc.sum(odd).as_py() or 0


def name_ids(kind: Kind, column: Any, identities: Identities) -> pa.Array:
    """Return the identifiers of rows for raw ones of one kind; kept ids of an odd form are hashed."""
    column, fits = flat(column), flat(pc.fill_null(are_ids(column), True))
    if identities.key is not None:
        return map_distinct(column, lambda text: identities.of(kind, text))
    if pc.all(fits).as_py() is not False:
        return column
    odd = map_distinct(pc.if_else(fits, None, column), short_hash)
    return pc.coalesce(odd, column)


def _of_paths(image_ids: Any, paths: Any, identities: Identities) -> pa.Array:
    """Name the images that the archive does not name."""
    unnamed = pc.if_else(pc.is_null(image_ids), paths, None)
    if identities.key is not None:
        return map_distinct(unnamed, lambda path: identities.of("image", path))
    return map_distinct(unnamed, short_hash)
