"""List an archive: one row a file, whatever its layout, and fetch a listed file again."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from cxrgaze_ray.errors import RadiographError, StoreNotFound, UserError
from cxrgaze_ray.radiograph import SNIFF_BYTES, sniff
from cxrgaze_ray.schemas import MANIFEST, Reason
from cxrgaze_ray.storage import ObjectInfo, Store, open_parent, open_store

_RECORD_LISTS = ("cxr-record-list.csv.gz", "cxr-record-list.csv")
_METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"
_NOT_IMAGES = re.compile(
    r"(.*/)?(README[^/]*|LICENSE[^/]*|SHA256SUMS[^/]*|index\.html|phantoms\.json|cxr-(record|study)-list\.csv(\.gz)?"
    r"|mimic-cxr-2\.0\.0-[^/]*|master_sheet\.csv|eye_gaze\.csv|fixations\.csv|bounding_boxes\.csv|labels\.csv)"
)
_MIMIC_PATH = re.compile(r"(?:.*/)?p\d{2}/p(\d+)/s(\d+)/([0-9A-Za-z._-]{1,64})\.(dcm|jpg)")
_FORMATS = {"dcm": "dicom", "dicom": "dicom", "jpg": "jpeg", "jpeg": "jpeg", "png": "png"}
_MAX_LIST_BYTES = 2**31


@dataclass(frozen=True)
class Manifest:
    """An archive as it was listed.

    Attributes
    ----------
    uri, layout
        Of the archive; the layout is mimic-cxr or tree.
    table
        `schemas.MANIFEST`, ordered by path.
    counts
        files, bytes, hidden, metadata (files that are no inputs), missing (listed, but absent), repeated_ids,
        and format_* and view_* counts.
    """

    uri: str
    layout: str
    table: pa.Table
    counts: dict[str, int] = field(default_factory=dict)

    def sha256(self) -> str:
        """Identify the listing by its ids, places, sizes and etags."""
        digest = hashlib.sha256(f"{self.uri}\0{self.layout}".encode())
        for name in ("image_id", "uri", "size_bytes", "etag"):
            for value in self.table[name].to_pylist():
                digest.update(f"{value}\0".encode())
        return digest.hexdigest()


def list_archive(uri: str) -> Manifest:
    """List every input of an archive.

    MIMIC-CXR is known by its record list, or by paths like ``p10/p10000032/s50414267/<dicom_id>.dcm``, where ids come
    from. Anywhere else an image's id is the hash of its path. Formats come from names, or from the first bytes.

    Raises
    ------
    UserError
        If there is no file, or the record list is malformed.
    """
    store = open_store(uri)
    objects, skipped = _inputs(store)
    if not objects and open_parent(uri)[0].exists(open_parent(uri)[1]):
        store, objects = open_parent(uri)[0], [_require(open_parent(uri))]
        listed = {key: ids for key, ids in _record_list(store).items() if key == objects[0].key}
    else:
        listed = _record_list(store)
    rows = [_row(store, info, listed.get(info.key)) for info in objects]
    present = {info.key for info in objects}
    rows += [_absent(store, key, ids) for key, ids in listed.items() if key not in present]
    if not rows:
        raise UserError(f"There is no file in {store.uri}.", "Check the URI.")
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["uri"])), schema=MANIFEST)
    layout = "mimic-cxr" if listed or _any_study(table) else "tree"
    table = _with_views(store, table)
    return Manifest(store.uri, layout, table, _counts(table, skipped))


def fetch_listed(row: dict[str, Any]) -> bytes:
    """Fetch the bytes of a listed file.

    Parameters
    ----------
    row
        uri, size_bytes and etag of a manifest row.

    Raises
    ------
    RadiographError
        MISSING if it is gone, CHANGED if it is not the file that was listed, EMPTY_FILE without asking for it.
    EnvironmentFault
        If the store can't be read: an outage is never a row.
    """
    if row["size_bytes"] is None:
        raise RadiographError(Reason.MISSING, "The record list names the file, and it is not there.")
    if row["size_bytes"] == 0:
        raise RadiographError(Reason.EMPTY_FILE, "The file is empty.")
    store, key = open_parent(row["uri"])
    try:
        data, info = store.fetch(key)
    except StoreNotFound:
        raise RadiographError(Reason.MISSING, "The file was there when it was listed, and is gone.") from None
    if (info.size_bytes, info.etag) != (row["size_bytes"], row["etag"]):
        raise RadiographError(Reason.CHANGED, "The file is not the one that was listed.")
    return data


def _require(place: tuple[Store, str]) -> ObjectInfo:
    info = place[0].info(place[1])
    assert info is not None
    return info


def _inputs(store: Store) -> tuple[list[ObjectInfo], Counter[str]]:
    skipped: Counter[str] = Counter()
    inputs = []
    try:
        for info in store.list():
            if any(part.startswith(".") for part in info.key.split("/")):
                skipped["hidden"] += 1
            elif _NOT_IMAGES.fullmatch(info.key):
                skipped["metadata"] += 1
            else:
                inputs.append(info)
    except StoreNotFound:
        if not open_parent(store.uri)[0].exists(open_parent(store.uri)[1]):
            raise
    return inputs, skipped


def _record_list(store: Store) -> dict[str, tuple[str, str, str]]:
    """Return (dicom_id, subject_id, study_id) by path, from MIMIC-CXR's record list; empty if there is none."""
    for name in _RECORD_LISTS:
        if store.exists(name):
            columns = ["dicom_id", "subject_id", "study_id", "path"]
            table = _read_csv(store, name, columns)
            ids = zip(*(table[column].to_pylist() for column in columns[:3]), strict=True)
            return dict(zip(table["path"].to_pylist(), ids, strict=True))
    return {}


def _read_csv(store: Store, name: str, columns: list[str]) -> pa.Table:
    data = store.get(name)
    if name.endswith(".gz"):
        try:
            with gzip.open(io.BytesIO(data)) as unpacked:
                data = unpacked.read(_MAX_LIST_BYTES + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{name} can't be unpacked.", "Copy it again from its source.") from error
        if len(data) > _MAX_LIST_BYTES:
            raise UserError(f"{name} unpacks to more than a list of files can be.", "Check the file.")
    options = pacsv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), include_columns=columns)
    try:
        return pacsv.read_csv(io.BytesIO(data), convert_options=options)
    except (pa.ArrowInvalid, KeyError) as error:
        raise UserError(f"{name} can't be read as CSV with {', '.join(columns)}.", "Check the file.") from error


def _row(store: Store, info: ObjectInfo, listed: tuple[str, str, str] | None) -> dict[str, Any]:
    ids = listed or _ids(info.key)
    return {
        "image_id": ids[0],
        "subject_id": ids[1],
        "study_id": ids[2],
        "uri": store.locate(info.key),
        "size_bytes": info.size_bytes,
        "etag": info.etag,
        "format": _format(store, info),
        "view_source": "unknown",
    }


def _absent(store: Store, key: str, ids: tuple[str, str, str]) -> dict[str, Any]:
    kind = _FORMATS.get(key.rpartition(".")[2], "other")
    names = zip(("image_id", "subject_id", "study_id"), ids, strict=True)
    return {**dict(names), "uri": store.locate(key), "format": kind, "view_source": "unknown"}


def _ids(key: str) -> tuple[str, str | None, str | None]:
    if match := _MIMIC_PATH.fullmatch(key):
        return match[3], match[1], match[2]
    return hashlib.sha256(key.encode()).hexdigest()[:32], None, None


def _format(store: Store, info: ObjectInfo) -> str:
    extension = info.key.rpartition("/")[2].rpartition(".")[2].lower()
    if extension in _FORMATS:
        return _FORMATS[extension]
    try:
        return sniff(store.head(info.key, SNIFF_BYTES)) if info.size_bytes else "other"
    except StoreNotFound:
        return "other"


def _any_study(table: pa.Table) -> bool:
    return bool(table["study_id"].null_count < table.num_rows)


def _with_views(store: Store, table: pa.Table) -> pa.Table:
    """Fill in the views that MIMIC-CXR-JPG's metadata knows."""
    if not store.exists(_METADATA):
        return table
    known = _read_csv(store, _METADATA, ["dicom_id", "ViewPosition"])
    views = dict(zip(known["dicom_id"].to_pylist(), known["ViewPosition"].to_pylist(), strict=True))
    positions = [views.get(image_id) or None for image_id in table["image_id"].to_pylist()]
    sources = ["metadata" if position else "unknown" for position in positions]
    names = table.schema.names
    table = table.set_column(names.index("view_position"), "view_position", pa.array(positions, pa.string()))
    return table.set_column(names.index("view_source"), "view_source", pa.array(sources, pa.string()))


def _counts(table: pa.Table, skipped: Counter[str]) -> dict[str, int]:
    counts = {
        "files": table.num_rows,
        "bytes": pc.sum(table["size_bytes"]).as_py() or 0,
        "hidden": skipped["hidden"],
        "metadata": skipped["metadata"],
        "missing": table["size_bytes"].null_count,
        "repeated_ids": table.num_rows - pc.count_distinct(table["image_id"]).as_py(),
    }
    counts |= _tally("format", table["format"].to_pylist())
    return counts | _tally("view", (view or "unknown" for view in table["view_position"].to_pylist()))


def _tally(prefix: str, values: Iterable[str]) -> dict[str, int]:
    return {f"{prefix}_{value}": number for value, number in sorted(Counter(values).items())}
