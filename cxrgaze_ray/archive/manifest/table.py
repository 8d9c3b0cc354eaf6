"""The manifest: an archive as it was listed, its hash, and its counts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray.archive.manifest.places import are_invalid
from cxrgaze_ray.schemas import MANIFEST, Reason

DE_IDENTIFIED = frozenset({"mimic-cxr", "mimic-cxr-jpg", "phantoms"})
"""Layouts whose identifiers name nobody: they are kept as they are."""

CLOSED = "closed_folders"
"""Count of folders that may not be listed: the one count that says that rows are lacking."""

KEPT = (
    "hidden", "metadata", "incomplete", "repeated_entries", "odd_ids", "link_loops", "folder_markers", CLOSED,
)  # fmt: skip
"""Counts that the table does not show."""

_ORIGIN = {name: f"cxrgaze.{name}".encode() for name in ("uri", "layout", "identities")}
_CLOSED = f"cxrgaze.{CLOSED}".encode()
_STATES = {Reason.UNREADABLE: "unreadable", Reason.LINK_OUTSIDE: "links_outside", Reason.NOT_AN_IMAGE: "special_files"}


@dataclass(frozen=True)
class Manifest:
    """An archive as it was listed.

    Attributes
    ----------
    uri, layout
        URI and layout of the archive; the layout is mimic-cxr, mimic-cxr-jpg, phantoms, tree or list.
    table
        `schemas.MANIFEST`, ordered by URI.
    counts
        files, bytes; hidden, metadata and incomplete (files that are no inputs); missing (listed, but absent),
        unreadable (they may not be read), links_outside (links that lead out, not followed), special_files (folders in
        a list, pipes, sockets and devices: never opened); closed_folders, link_loops and folder_markers (`Survey`);
        invalid (an entry that names no place); repeated_ids (files whose image_id another file has too),
        repeated_entries (a list names a file again), odd_ids (identifiers that were hashed for their form); and how
        many files have each format_*, view_*, view_source_* and split_*.
    identities
        `Identities.name` of the identifiers in the table.
    closed
        Folders that could not be listed, where they are known: names that may be a patient's, for the user's own
        terminal only.
    """

    uri: str
    layout: str
    table: pa.Table
    counts: dict[str, int] = field(default_factory=dict)
    identities: str = "keep"
    closed: tuple[str, ...] = ()

    def sha256(self) -> str:
        """Identify the listing by everything in it; the same on every machine, however the table is chunked."""
        digest = hashlib.sha256(f"{self.uri}\0{self.layout}\0{self.identities}".encode())
        for name in self.table.schema.names:
            digest.update(f"\0{name}\0".encode())
            _feed(digest, self.table[name])
        return digest.hexdigest()


def _feed(digest: Any, column: pa.ChunkedArray) -> None:
    """Hash a column: lengths (-1: null) and text of strings, or values and validity of numbers, little-endian."""
    for chunk in column.chunks:
        values = pc.binary_length(chunk) if pa.types.is_string(chunk.type) else chunk.cast(pa.int64())
        digest.update(np.asarray(pc.fill_null(values, -1)).astype("<i8").tobytes())
    for chunk in column.chunks:
        if pa.types.is_string(chunk.type):
            digest.update(_text(chunk.drop_null()))
        else:
            digest.update(np.asarray(chunk.is_valid()).astype(np.uint8).tobytes())


def _text(array: pa.Array) -> memoryview:
    """Return the text of all strings, end to end."""
    _, offsets, data = array.buffers()
    if not len(array) or data is None:
        return memoryview(b"")
    bounds = np.frombuffer(offsets, np.int32)[array.offset :][: len(array) + 1]
    return memoryview(data)[bounds[0] : bounds[-1]]


def make_table(columns: dict[str, Any]) -> pa.Table:
    """Return rows of `schemas.MANIFEST` in the order of their URIs; columns that are not given are null."""
    rows = len(columns["uri"])
    arrays = [
        columns.get(name, pa.nulls(rows, kind)) for name, kind in zip(MANIFEST.names, MANIFEST.types, strict=True)
    ]
    table = pa.table(arrays, schema=MANIFEST)
    return table.take(pc.sort_indices(table["uri"]))


def count(table: pa.Table, kept: dict[str, int]) -> dict[str, int]:
    """Count a manifest's rows; `kept` says what the table does not show."""
    invalid = are_invalid(table["uri"])
    unread = pc.and_not(pc.is_null(table["size_bytes"]), invalid)
    states = pc.if_else(unread, pc.fill_null(table["etag"], "missing"), None)
    counts = {
        "files": table.num_rows,
        "bytes": pc.sum(table["size_bytes"]).as_py() or 0,
        "missing": pc.sum(pc.equal(states, "missing")).as_py() or 0,
        **{name: pc.sum(pc.equal(states, state)).as_py() or 0 for state, name in _STATES.items()},
        "invalid": pc.sum(invalid).as_py() or 0,
        "repeated_ids": pc.sum(table["repeated_id"]).as_py() or 0,
        **{name: kept.get(name, 0) for name in KEPT},
    }
    for prefix, name in {"format": "format", "view": "view_position", "view_source": "view_source"}.items():
        counts |= _tally(prefix, pc.fill_null(table[name], "unknown"))
    return counts | _tally("split", table["split"].drop_null())


def _tally(prefix: str, column: Any) -> dict[str, int]:
    tally = pc.value_counts(column)
    pairs = zip(tally.field("values").to_pylist(), tally.field("counts").to_pylist(), strict=True)
    return {f"{prefix}_{value}": number for value, number in sorted(pairs)}


def closed_sentence(closed: int) -> str:
    """Say how many folders could not be listed, and what that means."""
    what, them = ("1 folder", "it") if closed == 1 else (f"{closed} folders", "them")
    return f"Warning: {what} of the archive could not be listed: what lies in {them} has no row."


def with_origin(manifest: Manifest) -> pa.Table:
    """Return the table with what tells a Parquet file of it from any other list: `read_origin` reads it."""
    notes = {key: str(getattr(manifest, name)).encode() for name, key in _ORIGIN.items()}
    return manifest.table.replace_schema_metadata(notes | {_CLOSED: str(manifest.counts.get(CLOSED, 0)).encode()})


def read_closed(schema: pa.Schema) -> dict[str, int]:
    """Return the count of folders that a manifest could not look into."""
    noted = (schema.metadata or {}).get(_CLOSED, b"")
    return {CLOSED: int(noted) if noted.isdigit() else 0}


def read_origin(schema: pa.Schema) -> dict[str, str] | None:
    """Return uri, layout and identities of a Parquet file that is a manifest, or None."""
    notes = schema.metadata or {}
    if not schema.equals(MANIFEST) or not all(key in notes for key in _ORIGIN.values()):
        return None
    return {name: notes[key].decode() for name, key in _ORIGIN.items()}
