"""One shard: plan rows to a Parquet file of images and a table of rejects, a chunk of images in memory at a time."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import resource
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cxrgaze_ray import schemas, telemetry
from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.intake import Intake
from cxrgaze_ray.errors import RadiographError, StoreNotFound
from cxrgaze_ray.gaze.heatmap import Fixations, Gaze, Samples, map_readings
from cxrgaze_ray.gaze.packed import pack_readings
from cxrgaze_ray.gaze.reflacx import read_fixations
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.schemas import CLASSES, Affine, Status, status_of
from cxrgaze_ray.shards.patients import PLACED, Names, nobody_named
from cxrgaze_ray.shards.plan import Plan
from cxrgaze_ray.shards.settings import IngestSettings
from cxrgaze_ray.shards.store import WITHOUT_PATIENT, ShardInfo, split_of
from cxrgaze_ray.shards.writing import ShardWriter
from cxrgaze_ray.storage import Store, open_store
from cxrgaze_ray.telemetry import labels, table
from cxrgaze_ray.telemetry.logs import event, start_logging

_LOG = logging.getLogger(__name__)

_TALLY, _NAMES = b"readings", b"names"


@dataclass
class _Shard:
    """A shard in the making."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    readings: Counter[str] = field(default_factory=Counter)
    names: Names = field(default_factory=Names)


class BuildShard:
    """Decode the files of one shard and write it with its rejects, whole and last; a shard that is there stands."""

    def __init__(
        self, store_uri: str, settings: IngestSettings, identities: Identities, reflacx_uri: str | None
    ) -> None:
        start_logging()
        self._store = open_store(store_uri)
        self._settings = settings
        self._reflacx = open_store(reflacx_uri) if reflacx_uri else None
        self._plan, self._identities = Plan(self._store), identities
        self._intake = Intake(settings.profile, Reading(frontal_only=True), identities, job="ingest")

    def __call__(self, batch: pa.Table) -> pa.Table:
        built = [self._ensure(number) for number in batch["id"].to_pylist()]
        columns = {name: [one[place] for one in built] for place, name in enumerate(("shard", "tally", "names"))}
        return pa.table(columns | {"peak_rss_mib": [peak_rss_mib()] * len(built)})

    def _ensure(self, number: int) -> tuple[str, str, str]:
        name, rejects_name = f"shards/shard-{number:05d}.parquet", f"rejects/shard-{number:05d}.parquet"
        if not self._store.exists(name):
            data, rejects = self._build(number)
            with telemetry.timed(table.STAGE_SECONDS, job="ingest", stage="commit"):
                self._store.put(rejects_name, rejects)
                self._store.put(name, data)
            telemetry.record(table.SHARD_COMMITS, job="ingest")
            event(_LOG, "shard written", job="ingest", shard=number)
        else:
            data, rejects = self._store.get(name), self._store.get(rejects_name)
        rows = pq.read_table(io.BytesIO(data), columns=[*PLACED, "label", "gaze_peak"])
        rejected = pq.read_table(io.BytesIO(rejects))
        info = ShardInfo(name=name, rows=rows.num_rows, sha256=hashlib.sha256(data).hexdigest())
        return info.model_dump_json(), json.dumps(_tally(rows, rejected)), _names(rows, rejected).to_json()

    def _build(self, number: int) -> tuple[bytes, bytes]:
        planned, shard, writer = self._plan.read(number), _Shard(), ShardWriter()
        for start in range(0, planned.num_rows, self._settings.chunk_rows):
            self._decode(planned.slice(start, self._settings.chunk_rows), shard)
            if shard.rows:
                writer.add(pa.Table.from_pylist(shard.rows, schema=schemas.STORE_SHARD))
                shard.rows.clear()
        return writer.finish(), _rejects(shard)

    def _decode(self, chunk: pa.Table, shard: _Shard) -> None:
        samples = [value.values.to_numpy().reshape(-1, 2) if value.is_valid else None for value in chunk["samples"]]
        for planned, points_N2 in zip(chunk.drop_columns("samples").to_pylist(), samples, strict=True):
            planned["samples"] = points_N2
            try:
                shard.rows.append(self._row(planned, shard))
                telemetry.record(table.IMAGES, job="ingest", status=str(Status.SCORED), reason=labels.NONE)
            except RadiographError as error:
                shard.rejects.append(self._reject(planned, error))
                status = str(status_of(error.reason))
                telemetry.record(table.IMAGES, job="ingest", status=status, reason=str(error.reason))

    def _row(self, planned: dict[str, Any], shard: _Shard) -> dict[str, Any]:
        decoded = self._intake.take(planned)
        ids = self._intake.ids(planned, decoded)
        if ids["subject_id"] is None and self._settings.split_by != "image":
            raise nobody_named()
        row = ids | {
            "split": planned["split"] or split_of(ids["subject_id"] or ids["image_id"], self._settings.split),
            "label": planned["label"],
            "image": decoded.pixels.astype("<u2").tobytes(),
            "affine": asdict(decoded.affine),
            **decoded.facts,
        }
        if planned["samples"] is not None or planned["readings"] is not None:
            row |= pack_readings(map_readings(self._gaze(planned, decoded.affine, shard.readings), decoded.affine))
        if self._plan.mixed and decoded.patient is not None:
            shard.names.note_tag(planned["subject_id"], decoded.patient, self._identities)
        return row

    def _reject(self, planned: dict[str, Any], error: RadiographError) -> dict[str, Any]:
        outcome = {"status": str(status_of(error.reason)), "reason_code": str(error.reason), "detail": error.message}
        return self._intake.ids(planned, error) | outcome

    def _gaze(self, planned: dict[str, Any], affine: Affine, readings: Counter[str]) -> list[Gaze]:
        if planned["samples"] is not None:
            return [Samples(planned["samples"], self._settings.gaze_profile)]
        assert self._reflacx is not None
        found = [usable_reading(self._reflacx, one, affine) for one in planned["readings"]]
        for counts, _ in found:
            readings.update(counts)
        return [fixations for _, fixations in found if fixations is not None]


def usable_reading(store: Store, reading: dict[str, Any], affine: Affine) -> tuple[dict[str, int], Fixations | None]:
    """Read one REFLACX reading, and say what became of it.

    A reading of an image of another size is left out, never scaled: it may be of another image, and nobody could tell.

    Returns
    -------
    dict of str to int
        1 for readings_used, readings_without_table, readings_of_other_size or readings_off_image; and the counts of
        `read_fixations`.
    Fixations or None
        None unless it can be used.
    """
    if (reading["rows"], reading["columns"]) != affine.upright:
        return {"readings_of_other_size": 1}, None
    try:
        fixations, counts = read_fixations(store, reading["reading"])
    except StoreNotFound:
        return {"readings_without_table": 1}, None
    if fixations.inside(affine).any():
        return counts | {"readings_used": 1}, fixations
    return counts | {"readings_off_image": 1}, None


def _rejects(shard: _Shard) -> bytes:
    """Return the rejects as Parquet; what no row tells, of readings and of names, goes into its metadata."""
    table = pa.Table.from_pylist(shard.rejects, schema=schemas.REJECTS)
    buffer = io.BytesIO()
    untold = {_TALLY: json.dumps(shard.readings, sort_keys=True), _NAMES: shard.names.to_json()}
    pq.write_table(table.replace_schema_metadata(untold), buffer, compression="zstd")
    return buffer.getvalue()


def _tally(rows: pa.Table, rejected: pa.Table) -> dict[str, int]:
    """Count a shard as it is stored: the same for one that was just made, and one that was there."""
    tally = Counter(json.loads(rejected.schema.metadata[_TALLY]))
    labels, gaze = rows["label"].to_pylist(), np.array(rows["gaze_peak"].is_valid(), bool)
    tally.update({"files": rows.num_rows + rejected.num_rows, "images": rows.num_rows})
    tally.update({"rejects": rejected.num_rows, "images_with_gaze": int(gaze.sum())})
    tally[WITHOUT_PATIENT] = rows["subject_id"].null_count
    tally["images_saliency_only"] = sum(label is None and bool(seen) for label, seen in zip(labels, gaze, strict=True))
    tally.update(f"split_{split}" for split in rows["split"].to_pylist())
    tally.update(f"label_{CLASSES[label]}" for label in labels if label is not None)
    tally.update(f"reject_{reason}" for reason in rejected["reason_code"].to_pylist())
    return dict(tally)


def _names(rows: pa.Table, rejected: pa.Table) -> Names:
    """Return whose images a shard holds; a shard of an earlier version does not tell what its files' tags said."""
    untold = rejected.schema.metadata.get(_NAMES)
    names = Names.of_json(untold) if untold else Names()
    names.note_rows(rows)
    return names


def peak_rss_mib() -> float:
    """Return the most memory this process ever held, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage inherits the peak of the process that started this one
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
