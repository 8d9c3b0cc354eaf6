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

from cxrgaze_ray.errors import StoreNotFound
from cxrgaze_ray.manifest import places
from cxrgaze_ray.manifest.columns import flat, map_distinct
from cxrgaze_ray.radiograph import SNIFF_BYTES, sniff
from cxrgaze_ray.storage import ObjectInfo, Store, open_parent, open_store

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
_HIDDEN = r"(?:^|/)\."
_INCOMPLETE = r"_\.gstmp$"
_EGD_SHEET = "master_sheet.csv"
_EGD_TABLES = (_EGD_SHEET, "eye_gaze.csv", "fixations.csv", "bounding_boxes.csv")
_EGD_FOLDERS = ("audio_segmentation_transcripts/", "inclusion_exclusion_criteria_outputs/")

_FORMATS = {"dcm": "dicom", "dicom": "dicom", "jpg": "jpeg", "jpeg": "jpeg", "png": "png"}
_BLOCK = 2**16
_THREADS = 32

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
        hidden, metadata and incomplete.
    """

    store: Store
    uri: str
    single: bool
    files: pa.Table
    tables: frozenset[str]
    skipped: Counter[str]


def find_files(uri: str) -> Found:
    """Walk a folder or prefix, or find the one file that a URI names.

    Raises
    ------
    StoreNotFound
        If there is neither.
    """
    store = open_store(uri)
    try:
        table = _collect(store.list(), store.uri)
    except StoreNotFound:
        if not open_parent(uri)[0].exists(open_parent(uri)[1]):
            raise
        table = FILES.empty_table()
    if table.num_rows or (info := open_parent(uri)[0].info(open_parent(uri)[1])) is None:
        files, skipped = _without_skipped(table)
        return Found(store, store.uri, False, files, TABLES & set(_root_names(table)), skipped)
    store = open_parent(uri)[0]
    there = frozenset(name for name in TABLES if store.exists(name))
    return Found(store, store.locate(info.key), True, _collect([info], store.uri), there, Counter())


def _collect(infos: Iterable[ObjectInfo], root: str) -> pa.Table:
    blocks = [_block(block, root) for block in in_blocks(infos)]
    return pa.concat_tables(blocks) if blocks else FILES.empty_table()


def _block(infos: list[ObjectInfo], root: str) -> pa.Table:
    names, sizes, etags = zip(*infos, strict=True)
    try:
        keys = pa.array(names, pa.string())
        uris = places.below(root, keys)
    except UnicodeEncodeError:  # a local name may be any bytes; such a file can't be named in a table
        shown = [name.encode("utf-8", "backslashreplace").decode() for name in names]
        keys = pa.array(shown, pa.string())
        odd = pa.array([one != name for one, name in zip(shown, names, strict=True)])
        uris = pc.if_else(odd, pc.binary_join_element_wise(places.INVALID, keys, ""), places.below(root, keys))
    return pa.table([keys, uris, pa.array(sizes, pa.int64()), pa.array(etags, pa.string())], schema=FILES)


def in_blocks(items: Iterable[In], size: int = _BLOCK) -> Iterator[list[In]]:
    """Cut a stream into lists."""
    stream = iter(items)
    while block := list(islice(stream, size)):
        yield block


def _root_names(table: pa.Table) -> list[str]:
    at_root = pc.invert(pc.match_substring(table["key"], "/"))
    return [str(name) for name in table["key"].filter(at_root).to_pylist()]


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
    except StoreNotFound:
        return "other"


def in_threads(function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """Apply a function that waits for a store, in order, many at a time; few wait in memory."""
    results: list[Out] = []
    with ThreadPoolExecutor(_THREADS) as threads:
        for block in in_blocks(items, 64 * _THREADS):
            results += threads.map(function, block)
    return results
