"""List an archive: find its files or read its list, name them, and join what its tables say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from errno import EACCES
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.manifest import mimic
from cxrgaze_ray.archive.manifest.columns import repeated
from cxrgaze_ray.archive.manifest.fetch import without_places
from cxrgaze_ray.archive.manifest.files import Found, find_files, formats
from cxrgaze_ray.archive.manifest.identifiers import ID_NAMES, name_rows
from cxrgaze_ray.archive.manifest.lists import is_list, read_list, read_manifest
from cxrgaze_ray.archive.manifest.places import path_of_place, place_of_path
from cxrgaze_ray.archive.manifest.table import CLOSED, DE_IDENTIFIED, Manifest, count, make_table
from cxrgaze_ray.archive.tables import Limits
from cxrgaze_ray.errors import StoreDenied, UserError
from cxrgaze_ray.storage import open_parent

Source = Identities | Callable[[], Identities] | None
"""Identities, or what gives them when they are needed: a key file is not made for a layout that needs none."""


def list_archive(
    uri: str, identities: Source = None, limits: Limits | None = None, *, follow_links: bool = False
) -> Manifest:
    """List every input of an archive, one row a file; what stands there and is no file to be read is a row, too.

    Layouts: ``mimic-cxr`` (a record list at the root, or every image at a path of MIMIC's form), ``mimic-cxr-jpg``
    (MIMIC-CXR-JPG's metadata at the root, or every image a .jpg at such a path), ``phantoms``, ``list`` (a CSV or
    Parquet file of URIs) and ``tree`` (anything else, a single file too). Formats come from names, or from the first
    bytes where the name does not say; they are hints.

    Parameters
    ----------
    uri
        A folder, an ``s3://`` prefix, one file, or a list.
    identities
        For the identifiers of layouts that are not `DE_IDENTIFIED`; by default they are kept as they are.
    limits
        What a table or list may unpack to.
    follow_links
        Follow links that lead out of the archive's folder. Those to contents of git-annex are followed anyway, and a
        list names what it names.

    Raises
    ------
    UserError
        If there is no file, or a table is malformed, too large, or can't be read.
    EnvironmentFault
        If the store can't be read, or no folder of it. The message names the archive, and no place in it.
    """
    limits = limits or Limits()
    with without_places(f"The archive {uri}"):
        uri = path_of_place(uri)
        store, name = open_parent(uri, exact=True)
        if is_list(name) and store.exists(name):
            manifest = read_manifest(store, name, limits)
            if manifest is not None:
                return manifest
            rows, repeats = read_list(store, name, limits)
            return _finish(place_of_path(store.locate(name)), "list", rows, {"repeated_entries": repeats}, identities)
        return _list_files(find_files(uri, follow_links=follow_links), identities, limits)


def _list_files(found: Found, identities: Source, limits: Limits) -> Manifest:
    records, repeats = mimic.read_records(found, limits)
    rows = mimic.join_records(found, records)
    rows = rows.append_column("format", formats(rows))
    layout = _layout(found, rows)
    rows = _with_ids_of_paths(rows, strict=layout == "tree")
    if layout in DE_IDENTIFIED:
        joined = mimic.read_views(found, rows["image_id"], limits)
        joined["split"] = mimic.read_split(found, rows["image_id"], limits)
        joined |= mimic.read_findings(found, rows["subject_id"], rows["study_id"], limits)
        for name, column in joined.items():
            rows = rows.append_column(name, column)
    if found.closed and not rows.num_rows:
        why = PermissionError(EACCES, "none of its folders may be listed")
        raise StoreDenied("The archive is closed.", "Check the owner and mode of its folders.") from why
    counts = {**found.skipped, "repeated_entries": repeats, CLOSED: len(found.closed)}
    return replace(_finish(found.uri, layout, rows, counts, identities), closed=found.closed)


def _layout(found: Found, rows: pa.Table) -> str:
    """Name the layout: by the tables at its root, else by the paths of all its images."""
    if mimic.table_name(found, mimic.RECORDS):
        return "mimic-cxr"
    if mimic.table_name(found, mimic.METADATA):
        return "mimic-cxr-jpg"
    if "phantoms.json" in found.tables:
        return "phantoms"
    images = rows.filter(pc.not_equal(rows["format"], "other"))
    known = pc.is_valid(mimic.ids_of_paths(images["uri"], strict=True)["image_id"])
    if not images.num_rows or not pc.all(known).as_py():
        return "tree"
    return "mimic-cxr-jpg" if pc.all(pc.equal(images["format"], "jpeg")).as_py() else "mimic-cxr"


def _with_ids_of_paths(rows: pa.Table, *, strict: bool) -> pa.Table:
    """Fill in the ids that no table gives."""
    unlisted = pc.is_null(rows["image_id"])
    for name, column in mimic.ids_of_paths(rows["uri"], strict=strict).items():
        filled = pc.if_else(unlisted, column, rows[name])
        rows = rows.set_column(rows.schema.get_field_index(name), name, filled)
    return rows


def _finish(uri: str, layout: str, rows: pa.Table, kept: Mapping[str, int], source: Source) -> Manifest:
    """Name the rows, and count them."""
    if not rows.num_rows:
        raise UserError(f"There is no file in {uri}.", "Check the URI.")
    identities = Identities() if layout in DE_IDENTIFIED else _open(source)
    raw = {name: rows[name] for name in ID_NAMES}
    named, odd = name_rows(raw, rows["key"], identities)
    columns: dict[str, Any] = {name: rows[name] for name in rows.schema.names} | named
    columns["repeated_id"] = repeated(columns["image_id"])
    if "format" not in columns:  # which costs a request where a name does not say it
        columns["format"] = formats(rows)
    columns.setdefault("view_source", pa.array(["unknown"] * rows.num_rows))
    table = make_table(columns)
    return Manifest(uri, layout, table, count(table, {**kept, "odd_ids": odd}), identities.name)


def _open(source: Source) -> Identities:
    return source() if callable(source) else source or Identities()
