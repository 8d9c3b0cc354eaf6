"""Walk an archive: its files as columns, without those that are no inputs, and the format of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray.archive.manifest import places
from cxrgaze_ray.archive.manifest.columns import flat, map_distinct
from cxrgaze_ray.errors import ObjectDenied, StoreNotFound, UserError
from cxrgaze_ray.radiograph.reading import SNIFF_BYTES, sniff
from cxrgaze_ray.schemas import Reason
from cxrgaze_ray.storage import ArchiveEntry, Store, Survey, open_parent, open_store

In = TypeVar("In")
Out = TypeVar("Out")

TABLES = frozenset(
    f"{stem}.csv{packed}"
    for stem in (
        "cxr-record-list", "cxr-study-list", "cxr-provider-list", "mimic-cxr-2.0.0-metadata", "mimic-cxr-2.0.0-split",
        "mimic-cxr-2.0.0-chexpert", "mimic-cxr-2.0.0-negbio", "mimic-cxr-2.1.0-test-set-labeled",
    )
    for packed in ("", ".gz")
) | {"phantoms.json"}  # fmt: skip
"""A layout's own tables, which lie at its root."""

_AT_ROOT = TABLES | {"labels.csv", "IMAGE_FILENAMES", "mimic-cxr-reports.zip"}
_ANYWHERE = r"(?:^|/)(?:(?:README|LICENSE|SHA256SUMS)(?:\.(?:md|txt|html))?|index\.html)$"
_HIDDEN = r"(?:^|/)\.(?:[^./]|\.[^/])"  # not the parts "." and ".." that a key of S3 may have
_INCOMPLETE = r"_\.gstmp$"
_EGD_SHEET = "master_sheet.csv"
_EGD_TABLES = (_EGD_SHEET, "eye_gaze.csv", "fixations.csv", "bounding_boxes.csv")
_EGD_FOLDERS = ("audio_segmentation_transcripts/", "inclusion_exclusion_criteria_outputs/")

_FORMATS = {"dcm": "dicom", "dicom": "dicom", "jpg": "jpeg", "jpeg": "jpeg", "png": "png"}
_BLOCK = 2**16
_THREADS = 32

_UNREAD_TABLE = {
    None: ("it is a link that leads nowhere", "Put the table there, or remove the link."),
    Reason.LINK_OUTSIDE: ("it is a link that leads out of the archive", "--follow-links follows it."),
    Reason.UNREADABLE: ("it may not be opened", "Check its owner and mode."),
}

FILES = pa.schema([("key", pa.string()), ("uri", pa.string()), ("size_bytes", pa.int64()), ("etag", pa.string())])
"""Files as they are found; key is the path in the archive."""


@dataclass(frozen=True)
class Found:
    """What lies at an archive's URI.

    Attributes
    ----------
    store
        The archive's folder; of a single file, the one that it lies in.
    uri
        The store's, or that of the single file.
    single
        The URI names one file.
    files
        `FILES`: the inputs.
    tables
        Names of the layout's tables that are there.
    skipped
        hidden, metadata and incomplete; link_loops and folder_markers.
    closed
        Folders that may not be listed, by their path in the archive.
    """

    store: Store
    uri: str
    single: bool
    files: pa.Table
    tables: frozenset[str]
    skipped: Counter[str]
    closed: tuple[str, ...] = ()


def find_files(uri: str, *, follow_links: bool = False) -> Found:
    """Walk a folder or prefix, or find the one file that a URI names.

    Parameters
    ----------
    follow_links
        Follow links that lead out of the folder, too.

    Raises
    ------
    StoreNotFound
        If there is neither.
    UserError
        If a table of the layout is there and can't be read: the rows would lack what it says.
    """
    store, survey = open_store(uri, exact=True), Survey(follow_links)
    parent, name = open_parent(uri, exact=True)
    try:
        table = _collect(store.survey(survey), store.uri)
    except StoreNotFound:
        if not (name and parent.exists(name)):
            raise
        table = FILES.empty_table()
    if table.num_rows or not name or not parent.exists(name):
        files, skipped = _without_skipped(table)
        skipped.update(link_loops=survey.link_loops, folder_markers=survey.folder_markers)
        closed = _closed(survey, store.uri)
        return Found(store, places.place_of_path(store.uri), False, files, _tables(table), skipped, closed)
    there = frozenset(one for one in TABLES if parent.exists(one))
    place = places.place_of_path(parent.locate(name))
    return Found(parent, place, True, _collect([parent.look(name)], parent.uri), there, Counter())


def _closed(survey: Survey, root: str) -> tuple[str, ...]:
    """Return the closed folders that may hold inputs, as text."""
    if not survey.closed:
        return ()
    keys, _ = places.found(root, survey.closed)
    return tuple(keys.filter(pc.invert(pc.match_substring_regex(keys, _HIDDEN))).to_pylist())


def _tables(table: pa.Table) -> frozenset[str]:
    """Return the names of a layout's tables that are there."""
    at_root = table.filter(pc.is_in(table["key"], value_set=pa.array(sorted(TABLES))))
    for name, reason in zip(*at_root.filter(pc.is_null(at_root["size_bytes"])).select(["key", "etag"]), strict=True):
        why, hint = _UNREAD_TABLE.get(reason.as_py(), _UNREAD_TABLE[Reason.UNREADABLE])
        raise UserError(f"{name} of the archive can't be read: {why}.", hint)
    return frozenset(at_root["key"].to_pylist())


def _collect(entries: Iterable[ArchiveEntry], root: str) -> pa.Table:
    blocks = [_block(block, root) for block in in_blocks(entries)]
    return pa.concat_tables(blocks) if blocks else FILES.empty_table()


def _block(entries: list[ArchiveEntry], root: str) -> pa.Table:
    names, sizes, etags = zip(*entries, strict=True)
    keys, uris = places.found(root, names)
    return pa.table([keys, uris, pa.array(sizes, pa.int64()), pa.array(etags, pa.string())], schema=FILES)


def in_blocks(items: Iterable[In], size: int = _BLOCK) -> Iterator[list[In]]:
    """Cut a stream into lists."""
    stream = iter(items)
    while block := list(islice(stream, size)):
        yield block


def _without_skipped(table: pa.Table) -> tuple[pa.Table, Counter[str]]:
    keys = table["key"]
    hidden = pc.match_substring_regex(keys, _HIDDEN)
    incomplete = pc.and_not(pc.match_substring_regex(keys, _INCOMPLETE), hidden)
    metadata = pc.and_not(_are_metadata(keys), pc.or_(hidden, incomplete))
    flags = {"hidden": hidden, "incomplete": incomplete, "metadata": metadata}
    skipped = Counter({name: pc.sum(flag).as_py() or 0 for name, flag in flags.items()})
    return table.filter(pc.invert(pc.or_(pc.or_(hidden, incomplete), metadata))), skipped


def _are_metadata(keys: Any) -> Any:
    flags = pc.or_(pc.match_substring_regex(keys, _ANYWHERE), pc.is_in(keys, value_set=pa.array(sorted(_AT_ROOT))))
    sheets = keys.filter(pc.match_substring_regex(keys, rf"(?:^|/){re.escape(_EGD_SHEET)}$")).to_pylist()
    for folder in (sheet.removesuffix(_EGD_SHEET) for sheet in sheets):
        flags = pc.or_(flags, pc.is_in(keys, value_set=pa.array([folder + name for name in _EGD_TABLES])))
        for name in _EGD_FOLDERS:
            flags = pc.or_(flags, pc.starts_with(keys, folder + name))
    return flags


def formats(files: pa.Table) -> pa.Array:
    """Return the format of each file: by its extension, or by its first bytes where the extension says nothing.

    Parameters
    ----------
    files
        uri and size_bytes; a file without a size is known by its name only.
    """
    extensions = pc.utf8_lower(pc.struct_field(pc.extract_regex(files["uri"], r"\.(?P<name>[^./]*)$"), "name"))
    known = map_distinct(extensions, _FORMATS.get)
    unclear = pc.and_(pc.is_null(known), pc.greater(pc.fill_null(files["size_bytes"], 0), 0))
    unclear = flat(pc.and_not(unclear, places.are_invalid(files["uri"])))
    found = pa.array(in_threads(_sniff, files["uri"].filter(unclear).to_pylist()), pa.string())
    return pc.fill_null(pc.replace_with_mask(known, unclear, found), "other")


def _sniff(uri: str) -> str:
    store, key = places.open_place(uri)
    try:
        return sniff(store.head(key, SNIFF_BYTES))
    except (StoreNotFound, ObjectDenied):  # gone since, or closed: its row will say so
        return "other"


def in_threads(function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """Apply a function that waits for a store, in order, many at a time; few wait in memory."""
    results: list[Out] = []
    with ThreadPoolExecutor(_THREADS) as threads:
        for block in in_blocks(items, 64 * _THREADS):
            results += threads.map(function, block)
    return results
