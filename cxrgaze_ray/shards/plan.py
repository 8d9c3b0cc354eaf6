"""What an ingest is to do: files joined with labels, splits and gaze, one row group of Parquet a shard."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.config import Record
from cxrgaze_ray.errors import StoreNotFound, StoreUnavailable, UserError
from cxrgaze_ray.gaze.ids import folded
from cxrgaze_ray.gaze.reflacx import READING
from cxrgaze_ray.gaze.sources import GazeTables
from cxrgaze_ray.schemas import ID_FIELDS
from cxrgaze_ray.shards.labels import chexpert_labels
from cxrgaze_ray.shards.patients import Names, check_named, name_patients
from cxrgaze_ray.shards.published_splits import paper_split, released_split
from cxrgaze_ray.shards.settings import IngestSettings
from cxrgaze_ray.shards.store import LABELLED_TWICE
from cxrgaze_ray.storage import Store

INGEST_PLAN = pa.schema(
    [
        *ID_FIELDS,
        ("uri", pa.string()),
        ("size_bytes", pa.int64()),
        ("etag", pa.string()),
        ("view_position", pa.string()),
        ("view_source", pa.string()),
        ("label", pa.int8()),
        ("split", pa.string()),
        ("samples", pa.list_(pa.float64())),
        ("readings", pa.list_(READING)),
    ]
)
"""One row a file. split: the archive's own or a published one, null where the patient's hash decides. samples:
EGD-CXR's, y and x in turn; readings: REFLACX's, whose fixations the worker reads; both null without gaze, and never
both set."""

_SPLITS = {"train": "train", "validate": "validation", "test": "test"}
_PART_SHARDS = 64
"""Row groups of a part: a footer describes all of its groups, and a reader holds it whole."""


class PlanInfo(Record):
    """Contents of plan.json, written after the parts."""

    rows: int
    shards: int
    counts: dict[str, int]
    """What did and did not join."""


class Plan:
    """A plan as it lies in a store: a shard's rows are read when they are asked for, and no others.

    Attributes
    ----------
    mixed
        Tables name the patients of some files, and tags are to name those of others.
    """

    def __init__(self, store: Store) -> None:
        self.info = PlanInfo.model_validate_json(store.get("plan.json"))
        self._store = store
        self.mixed = 0 < self.info.counts.get("files_without_patient", 1) < self.info.rows

    def read(self, shard: int) -> pa.Table:
        """Return one shard's rows (`INGEST_PLAN`)."""
        part, group = divmod(shard, _PART_SHARDS)
        # opened anew for every shard: one that stays open would outlive temporary credentials
        with _reading(self._store), self._store.open_input(_part_name(part)) as file:
            return pq.ParquetFile(file).read_row_group(group, use_threads=False)


def _part_name(part: int) -> str:
    return f"plan/part-{part:05d}.parquet"


@contextmanager
def _reading(store: Store) -> Iterator[None]:
    try:
        yield
    except (OSError, StoreNotFound) as error:
        raise StoreUnavailable(
            f"The plan in {store.uri} can't be read.", "Check the store, then run the same command again."
        ) from error


def write_plan(store: Store, table: pa.Table, counts: Counter[str], shard_rows: int) -> Plan:
    """Write a plan, once: a row group a shard, and plan.json last."""
    part_rows = _PART_SHARDS * shard_rows
    for part, start in enumerate(range(0, table.num_rows, part_rows)):
        buffer = io.BytesIO()
        pq.write_table(table.slice(start, part_rows), buffer, row_group_size=shard_rows, compression="zstd")
        store.put(_part_name(part), buffer.getvalue())
    info = PlanInfo(rows=table.num_rows, shards=-(-table.num_rows // shard_rows), counts=dict(counts))
    store.put_if_absent("plan.json", info.model_dump_json(indent=2).encode())
    return Plan(store)


def has_plan(store: Store) -> bool:
    """Say whether an ingest got as far as its plan."""
    return store.exists("plan.json")


def make_plan(
    manifest: pa.Table, gaze: GazeTables, settings: IngestSettings, identities: Identities
) -> tuple[pa.Table, Counter[str]]:
    """Join files with patients, labels, splits and gaze by image id, a column at a time; count what did not join.

    EGD-CXR comes first: where an image has gaze of both data sets, its 60 Hz samples make the map, and where it has a
    label of the master sheet, no other is looked for.

    Parameters
    ----------
    identities
        What made the manifest's ids of those that the gaze tables would name.

    Returns
    -------
    pa.Table
        `INGEST_PLAN`, in the manifest's order.
    Counter
        archive_files, left_out_unlabelled, left_out_without_split, gaze_without_file, file_without_gaze,
        images_with_both_gaze, labels_from_sheet, labels_from_chexpert, repeated_ids, patients_from_gaze_tables,
        files_without_patient (in any table), studies_labelled_twice if there are any, and the counts of `GazeTables`.

    Raises
    ------
    UserError
        If the archive has no findings, or no split, and is to give them; or see `name_patients`, `check_named` and
        `published_splits`.
    """
    counts = Counter({"archive_files": manifest.num_rows, **gaze.counts()})
    patients, unnamed = name_patients(manifest, gaze, identities), manifest["subject_id"].null_count
    counts["patients_from_gaze_tables"] = unnamed - patients.null_count
    manifest = manifest.set_column(manifest.schema.get_field_index("subject_id"), "subject_id", patients)
    joined = _with_gaze(manifest, gaze, identities, counts)
    joined = joined.append_column("label", _labels(manifest, gaze, settings, identities, counts))
    joined = _with_split(joined, gaze, settings, identities, counts)
    if settings.keep == "labelled" and (gaze != GazeTables() or settings.labels == "chexpert"):
        useful = pc.or_(pc.is_valid(joined["label"]), _has_gaze(joined))
        joined = _left(joined, useful, "left_out_unlabelled", counts)
        if not joined.num_rows:
            raise UserError(
                f"None of the archive's {manifest.num_rows} files has a label or gaze.",
                "The tables' dicom_id must be the ids of the archive's images; a list (CSV with columns path and "
                "image_id) in place of the archive gives files their ids, and --keep all takes every file.",
            )
    counts["files_without_patient"] = joined["subject_id"].null_count
    if settings.split_by != "image":
        check_named(joined)
    counts["file_without_gaze"] = joined.num_rows - pc.sum(_has_gaze(joined), min_count=0).as_py()
    if twice := _labelled_twice(joined):
        counts[LABELLED_TWICE] = twice
    counts["repeated_ids"] = pc.sum(joined["repeated_id"], min_count=0).as_py()
    return joined.select(INGEST_PLAN.names).cast(INGEST_PLAN), counts


def _labelled_twice(joined: pa.Table) -> int:
    """Count studies whose images have several labels, as where a sheet's of one meets the archive's of another."""
    known = joined.filter(pc.and_(pc.is_valid(joined["label"]), pc.is_valid(joined["study_id"])))
    labels = known.group_by("study_id").aggregate([("label", "count_distinct")])["label_count_distinct"]
    return pc.sum(pc.greater(labels, 1), min_count=0).as_py() or 0


def _with_gaze(manifest: pa.Table, gaze: GazeTables, identities: Identities, counts: Counter[str]) -> pa.Table:
    ids = manifest["image_id"].combine_chunks()
    nothing = pa.nulls(len(ids), pa.list_(pa.float64())), pa.nulls(len(ids), pa.list_(READING))
    samples = gaze.egd.samples_of(ids, identities) if gaze.egd else nothing[0]
    readings = gaze.reflacx.readings_of(ids, identities) if gaze.reflacx else nothing[1]
    both = pc.and_(pc.is_valid(samples), pc.is_valid(readings))
    counts["images_with_both_gaze"] = pc.sum(both, min_count=0).as_py()
    readings = readings.take(pc.if_else(both, None, pa.array(np.arange(len(ids)))))
    joined = manifest.append_column("samples", samples).append_column("readings", readings)
    known = gaze.egd.images_with_gaze if gaze.egd else set()
    known = known | set(gaze.reflacx.table["image_id"].to_pylist() if gaze.reflacx else ())
    counts["gaze_without_file"] = len(known) - pc.count_distinct(folded(ids.filter(_has_gaze(joined)))).as_py()
    return joined


def _has_gaze(joined: pa.Table) -> pa.ChunkedArray:
    return pc.or_(pc.is_valid(joined["samples"]), pc.is_valid(joined["readings"]))


def _labels(
    manifest: pa.Table, gaze: GazeTables, settings: IngestSettings, identities: Identities, counts: Counter[str]
) -> pa.Array:
    sheet = pa.nulls(manifest.num_rows, pa.int8())
    if gaze.egd:
        sheet = gaze.egd.labels_of(manifest["image_id"].combine_chunks(), identities)
    counts["labels_from_sheet"] = len(sheet) - sheet.null_count
    if settings.labels == "sheet":
        return sheet
    labels = pc.coalesce(sheet, chexpert_labels(manifest))
    counts["labels_from_chexpert"] = len(labels) - labels.null_count - counts["labels_from_sheet"]
    return labels


def _with_split(
    joined: pa.Table, gaze: GazeTables, settings: IngestSettings, identities: Identities, counts: Counter[str]
) -> pa.Table:
    """Set the split of each file where it is known before anything is decoded; null where a hash decides."""
    place = joined.schema.get_field_index("split")
    if settings.split_by in ("patient", "image"):
        return joined.set_column(place, "split", pa.nulls(joined.num_rows, pa.string()))
    if settings.split_by == "paper":
        return joined.set_column(place, "split", paper_split(joined, settings.split))
    splits = released_split(joined, gaze.egd, identities) if settings.split_by == "released" else _archive_split(joined)
    joined = _left(joined.set_column(place, "split", splits), splits.is_valid(), "left_out_without_split", counts)
    if settings.split_by == "archive":
        names = Names()
        names.note_rows(joined)
        names.check()
    return joined


def _archive_split(joined: pa.Table) -> pa.Array:
    found = pc.index_in(joined["split"], pa.array(list(_SPLITS)))
    splits = pa.array(list(_SPLITS.values())).take(found.combine_chunks())
    if splits.null_count == joined.num_rows:
        raise UserError("The archive has no split of its own.", "Leave out --split archive, or add its table.")
    return splits


def _left(table: pa.Table, keep: pa.ChunkedArray | pa.Array, name: str, counts: Counter[str]) -> pa.Table:
    kept = table.filter(keep)
    counts[name] = table.num_rows - kept.num_rows
    return kept
