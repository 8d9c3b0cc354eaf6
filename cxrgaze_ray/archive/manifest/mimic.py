"""MIMIC-CXR and MIMIC-CXR-JPG: who an image is of, and what their tables say of its view, split and findings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray.archive.manifest import places
from cxrgaze_ray.archive.manifest.columns import first_of_each, flat, lookup, map_distinct, nulls
from cxrgaze_ray.archive.manifest.files import Found
from cxrgaze_ray.archive.manifest.identifiers import ID_NAMES, are_ids
from cxrgaze_ray.archive.tables import Limits, read_table
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.radiograph.reading.views import read_view, view_of_procedure
from cxrgaze_ray.schemas import FINDINGS, Reason

RECORDS, METADATA = "cxr-record-list.csv", "mimic-cxr-2.0.0-metadata.csv"
_SPLIT, _CHEXPERT, _NEGBIO = (f"mimic-cxr-2.0.0-{name}.csv" for name in ("split", "chexpert", "negbio"))

_IDS = ("dicom_id", "subject_id", "study_id")
_STRICT = (
    r"(?:^|/)p\d{2}/p(?P<subject_id>\d{8})/s(?P<study_id>\d{8})/"
    r"(?P<image_id>[0-9a-f]{8}(?:-[0-9a-f]{8}){4})\.(?:dcm|jpg)$"
)
_LENIENT = (
    r"(?:^|/)p\d{2}/p(?P<subject_id>\d{1,64})/s(?P<study_id>\d{1,64})/"
    r"(?P<image_id>[0-9A-Za-z_-][0-9A-Za-z._-]{0,63})\.(?:dcm|jpg)$"
)
_CODE_TEXT = "ViewCodeSequence_CodeMeaning"
_PROCEDURE_TEXTS = ("PerformedProcedureStepDescription", "ProcedureCodeSequence_CodeMeaning")
_SPLITS = ("train", "validate", "test")
_TITLES = tuple(name.replace("_", " ") for name in FINDINGS)


def table_name(found: Found, stem: str) -> str | None:
    """Return the name of a table that is there, packed or not."""
    return next((name for name in (f"{stem}.gz", stem) if name in found.tables), None)


def read_records(found: Found, limits: Limits) -> tuple[pa.Table, int]:
    """Read which files there are to be, and whose they are.

    MIMIC-CXR has a record list. MIMIC-CXR-JPG has none: its metadata gives the ids, and these the paths.

    Returns
    -------
    pa.Table
        key, image_id, subject_id and study_id, a row a path; no rows if no table says so.
    int
        Rows that name a path again.
    """
    if name := table_name(found, RECORDS):
        table = read_table(found.store, name, (*_IDS, "path"), (), limits)
        keys = pc.fill_null(table["path"], "")
    elif (name := table_name(found, METADATA)) and not found.single:
        table = read_table(found.store, name, ("dicom_id",), _IDS[1:], limits)
        table = table.filter(pc.and_(pc.is_valid(table["subject_id"]), pc.is_valid(table["study_id"])))
        keys = _jpg_paths(table)
    else:
        return pa.table({name: nulls(0) for name in ("key", *ID_NAMES)}), 0
    table = pa.table({"key": keys, **{to: table[of] for to, of in zip(ID_NAMES, _IDS, strict=True)}})
    first = first_of_each(pc.if_else(pc.equal(table["key"], ""), None, table["key"]))
    return table.take(first), table.num_rows - len(first)


def _jpg_paths(table: pa.Table) -> Any:
    """Return where MIMIC-CXR-JPG has an image; nothing if an id can be no part of a path."""
    image, subject, study = (pc.fill_null(table[name], "") for name in _IDS)
    parts = ("files/p", pc.utf8_slice_codeunits(subject, 0, 2), "/p", subject, "/s", study, "/", image, ".jpg")
    paths = pc.binary_join_element_wise(*parts, "")
    sound = pc.and_(are_ids(image), pc.and_(are_ids(subject), are_ids(study)))
    return pc.if_else(sound, paths, "")


def join_records(found: Found, records: pa.Table) -> pa.Table:
    """Return found files with the records' ids, then the records whose file is absent.

    A record of the metadata is not absent if its image is there under another name, as in a DICOM archive.
    """
    files = found.files
    place = lookup(files["key"], records["key"])
    present = pa.table(
        {**{name: files[name] for name in files.schema.names}, **{n: records[n].take(place) for n in ID_NAMES}}
    )
    if found.single:
        return present
    absent = records.filter(pc.invert(pc.is_in(records["key"], value_set=flat(files["key"]))))
    if table_name(found, RECORDS) is None:
        elsewhere = pc.is_in(absent["image_id"], value_set=ids_of_paths(files["uri"], strict=False)["image_id"])
        absent = absent.filter(pc.invert(elsewhere))
    uris = places.below(found.store.uri, absent["key"])
    sizes, etags = pa.nulls(absent.num_rows, pa.int64()), _behind(found, absent["key"])
    missing = pa.table(
        {"key": absent["key"], "uri": uris, "size_bytes": sizes, "etag": etags}
        | {name: absent[name] for name in ID_NAMES}
    )
    return pa.concat_tables([present, missing.cast(present.schema)])


def _behind(found: Found, keys: Any) -> pa.Array:
    """Return why records have no file, where they lie behind a closed folder or a link that was not followed."""
    links = found.files.filter(pc.equal(found.files["etag"], Reason.LINK_OUTSIDE))["key"].to_pylist()
    reasons = {**dict.fromkeys(found.closed, Reason.UNREADABLE), **dict.fromkeys(links, Reason.LINK_OUTSIDE)}
    if not reasons:
        return nulls(len(keys))
    return pa.array([next((reasons[one] for one in _above(key) if one in reasons), None) for key in keys.to_pylist()])


def _above(key: str) -> Iterator[str]:
    while key := key.rpartition("/")[0]:
        yield key


def ids_of_paths(uris: Any, *, strict: bool) -> dict[str, pa.Array]:
    """Read ids out of paths such as ``p10/p10000032/s50414267/<dicom_id>.dcm``; nulls where they are others.

    Parameters
    ----------
    strict
        Only ids of MIMIC's own form: eight digits, and five groups of eight hexadecimal ones.
    """
    groups = flat(pc.extract_regex(uris, _STRICT if strict else _LENIENT))
    return {name: flat(pc.struct_field(groups, name)) for name in ID_NAMES}


def read_views(found: Found, image_ids: Any, limits: Limits) -> dict[str, pa.Array]:
    """Return view_position and view_source: ViewPosition, else the view's code, else the procedure's text."""
    rows = len(image_ids)
    name = table_name(found, METADATA)
    if name is None:
        return {"view_position": nulls(rows), "view_source": pa.array(["unknown"] * rows)}
    table = read_table(found.store, name, ("dicom_id",), ("ViewPosition", _CODE_TEXT, *_PROCEDURE_TEXTS), limits)
    coded = [map_distinct(table[column], lambda text: read_view(text)[0]) for column in ("ViewPosition", _CODE_TEXT)]
    told = [map_distinct(table[column], view_of_procedure) for column in _PROCEDURE_TEXTS]
    source = pc.case_when(
        pc.make_struct(pc.is_valid(pc.coalesce(*coded)), pc.is_valid(pc.coalesce(*told))), "metadata", "procedure"
    )
    place = lookup(image_ids, table["dicom_id"])
    return {
        "view_position": pc.coalesce(*coded, *told).take(place),
        "view_source": pc.fill_null(source.take(place), "unknown"),
    }


def read_split(found: Found, image_ids: Any, limits: Limits) -> pa.Array:
    """Return the archive's own split of each image: train, validate, test, or null."""
    name = table_name(found, _SPLIT)
    if name is None:
        return nulls(len(image_ids))
    table = read_table(found.store, name, ("dicom_id", "split"), (), limits)
    known = map_distinct(table["split"], lambda text: text.lower() if text.lower() in _SPLITS else None)
    return known.take(lookup(image_ids, table["dicom_id"]))


def read_findings(found: Found, subject_ids: Any, study_ids: Any, limits: Limits) -> dict[str, pa.Array]:
    """Return finding_* of each image's study (int8): CheXpert's labels, or NegBio's where only these are there."""
    name = table_name(found, _CHEXPERT) or table_name(found, _NEGBIO)
    if name is None:
        return {}
    table = read_table(found.store, name, ("subject_id", "study_id"), _TITLES, limits)
    place = lookup(_study(subject_ids, study_ids), _study(table["subject_id"], table["study_id"]))
    titles = zip(FINDINGS, _TITLES, strict=True)
    return {f"finding_{finding}": _labels(table[title], name).take(place) for finding, title in titles}


def _study(subject_ids: Any, study_ids: Any) -> pa.Array:
    return flat(pc.binary_join_element_wise(subject_ids, study_ids, "/"))


def _labels(column: Any, name: str) -> pa.Array:
    try:
        labels = flat(column).cast(pa.float64())
        numbers = labels.cast(pa.int8())
    except pa.ArrowInvalid:
        raise UserError(f"{name} has labels that are not 1, 0 or -1.", "Check the file.") from None
    if pc.all(pc.is_in(numbers, value_set=pa.array([-1, 0, 1, None], pa.int8()))).as_py() is False:
        raise UserError(f"{name} has labels that are not 1, 0 or -1.", "Check the file.")
    return numbers
