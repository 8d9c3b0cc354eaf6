"""A list as an archive: CSV or Parquet with a column of URIs, and ids and views where it has them."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray.archive.manifest import places
from cxrgaze_ray.archive.manifest.columns import first_of_each, flat, map_distinct
from cxrgaze_ray.archive.manifest.files import in_threads
from cxrgaze_ray.archive.manifest.identifiers import ID_NAMES
from cxrgaze_ray.archive.manifest.table import Manifest, count, read_closed, read_origin
from cxrgaze_ray.archive.tables import Limits, open_parquet, read_table
from cxrgaze_ray.errors import StoreNotFound, UserError
from cxrgaze_ray.radiograph.reading.views import read_view
from cxrgaze_ray.storage import ArchiveEntry, Store, joined

_LIST = re.compile(r".+\.(csv|csv\.gz|parquet)", re.IGNORECASE)
_FEW = 1000
"""Objects of a bucket that are asked for one by one; for more, a listing of their common folder is tried."""

_WASTE = 20
"""Objects that such a listing may read for each that is wanted, before it is given up."""


def is_list(name: str) -> bool:
    """Say whether a file's name is that of a list."""
    return _LIST.fullmatch(name) is not None


def read_list(store: Store, name: str, limits: Limits) -> tuple[pa.Table, int]:
    """Read a list, and look up each file that it names.

    Columns: ``uri`` or ``path``; and, where known, image_id, subject_id, study_id and view_position. Relative entries
    lie below the list's folder. An entry that names no place, or has a part ``..``, becomes a row that says so.

    Returns
    -------
    pa.Table
        key (what an image without an id is known by), uri, size_bytes, etag, ids, view_position and view_source.
    int
        Entries that name a file again; the first counts.
    """
    table = read_table(store, name, (), ("uri", "path", *ID_NAMES, "view_position"), limits)
    if table["uri"].null_count == table["path"].null_count == table.num_rows:
        raise UserError(f"{name} names no file.", "It needs a column uri or path.")
    entries = flat(pc.coalesce(table["uri"], table["path"]))
    uris = flat(places.resolve(entries, store.uri))
    first = first_of_each(pc.if_else(places.are_invalid(uris), None, uris))
    repeats = len(uris) - len(first)
    table, uris = table.take(first), uris.take(first)
    views = map_distinct(table["view_position"], lambda text: read_view(text)[0])
    sizes, etags = look_up(uris)
    columns = {
        "key": _keys(uris, store.uri),
        "uri": uris,
        "size_bytes": sizes,
        "etag": etags,
        **{column: table[column] for column in ID_NAMES},
        "view_position": views,
        "view_source": pc.if_else(pc.is_valid(views), "metadata", "unknown"),
    }
    return pa.table(columns), repeats


def _keys(uris: pa.Array, folder: str) -> pa.Array:
    """Return the path below the list's folder, so that a list and a listing name an image alike; else the URI."""
    root = places.place_of_path(joined(folder, ""))
    below = pc.if_else(pc.starts_with(uris, root), pc.utf8_slice_codeunits(uris, len(root)), uris)
    numbers = pa.array(range(len(uris))).cast(pa.string())
    return pc.if_else(places.are_invalid(uris), pc.binary_join_element_wise(numbers, uris, ":"), below)


def look_up(uris: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return the size (int64) and etag of each file; where there is none to be read, as `schemas.MANIFEST` says.

    Raises
    ------
    EnvironmentFault
        If a store can't be asked.
    """
    wanted = uris.filter(pc.invert(places.are_invalid(uris))).to_pylist()
    known = _by_listing(wanted)
    rest = [uri for uri in wanted if uri not in known]
    known |= dict(zip(rest, in_threads(_look, rest), strict=True))
    entries = [known.get(uri) for uri in uris.to_pylist()]
    sizes = pa.array([entry and entry.size_bytes for entry in entries], pa.int64())
    return sizes, pa.array([entry and entry.etag for entry in entries], pa.string())


def _look(uri: str) -> ArchiveEntry | None:
    store, key = places.open_place(uri)
    try:
        return store.look(key)
    except StoreNotFound:  # no such bucket
        return None


def _by_listing(wanted: list[str]) -> dict[str, ArchiveEntry | None]:
    """Find many objects of one bucket in a listing of their common folder; none for those it does not hold."""
    buckets: dict[str, list[str]] = {}
    for uri in wanted:
        if uri.startswith("s3://"):
            buckets.setdefault("/".join(uri.split("/", 3)[:3]), []).append(uri)
    known: dict[str, ArchiveEntry | None] = {}
    for uris in buckets.values():
        if len(uris) > _FEW:
            known |= _list_common(uris)
    return known


def _list_common(uris: list[str]) -> dict[str, ArchiveEntry | None]:
    first, last = min(uris), max(uris)
    same = next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    folder = first[:same].rpartition("/")[0]
    bucket, key = places.open_place(f"{folder}/")
    absent: dict[str, ArchiveEntry | None] = dict.fromkeys(uris)
    found: dict[str, ArchiveEntry | None] = {}
    try:
        for number, info in enumerate(bucket.list(key)):
            if number > _WASTE * len(uris):
                return found
            if (uri := bucket.locate(info.key)) in absent:
                found[uri] = ArchiveEntry(*info)
    except StoreNotFound:  # no such bucket
        pass
    return absent | found


def read_manifest(store: Store, name: str, limits: Limits) -> Manifest | None:
    """Read a manifest that was written with `with_origin`, as it is; None if the file is another list."""
    if not name.lower().endswith(".parquet"):
        return None
    file = open_parquet(store, name, limits)
    origin = read_origin(file.schema_arrow)
    if origin is None:
        return None
    try:
        table = file.read().replace_schema_metadata(None)
    except (pa.ArrowException, OSError, ValueError):
        raise UserError(f"{name} is no sound Parquet file.", "Write it again.") from None
    if any(table[column].null_count for column in ("uri", "image_id", "repeated_id", "format", "view_source")):
        raise UserError(f"{name} is a manifest with holes.", "Write it again: cxrgaze archive list --out.")
    return Manifest(
        origin["uri"], origin["layout"], table, count(table, read_closed(file.schema_arrow)), origin["identities"]
    )
