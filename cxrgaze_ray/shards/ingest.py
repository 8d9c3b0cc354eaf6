"""Archive and gaze to a shard store, on Ray Data: one block is one shard, decoded and written by one task."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from cxrgaze_ray import schemas, telemetry
from cxrgaze_ray.config import Settings
from cxrgaze_ray.decoding import Decoder
from cxrgaze_ray.errors import RadiographError, UserError
from cxrgaze_ray.gaze.egd import EgdTables, read_egd
from cxrgaze_ray.gaze.heatmap import gaze_map
from cxrgaze_ray.manifest import Manifest, fetch_listed, list_archive
from cxrgaze_ray.preprocess import DEFAULT_PROFILE, profile_sha256
from cxrgaze_ray.radiograph import Reading
from cxrgaze_ray.schemas import CLASSES, status_of
from cxrgaze_ray.shards.store import ShardInfo, ShardStore, SplitSettings, StoreInfo, pack_gaze, split_of
from cxrgaze_ray.storage import Store, open_store


class IngestSettings(Settings):
    """What goes into a store."""

    profile: str = DEFAULT_PROFILE
    """Preprocessing profile of the images."""

    gaze_profile: str = "paper"
    """How gaze points become a map."""

    shard_rows: int = 64
    """Files a shard is made of: bounds a worker's memory, at 1.3 MB an image with gaze."""

    keep: str = "labelled"
    """labelled: files that have a label or gaze; all: every file of the archive."""

    split: SplitSettings = SplitSettings()
    """How patients are split."""


@dataclass
class IngestProgress:
    """Where an ingest stands."""

    total: int
    done: int = 0


def ingest(
    archive: str,
    gaze: str | None,
    out: str,
    *,
    settings: IngestSettings | None = None,
    workers: int = 1,
    on_progress: Callable[[IngestProgress], None] = lambda _: None,
) -> ShardStore:
    """Build a shard store; the same command continues one that was interrupted.

    Parameters
    ----------
    archive
        URI of the radiographs.
    gaze
        URI of EGD-CXR tables, or None for a store without gaze and labels.
    out
        URI of the store.
    workers
        Decoding actors.

    Raises
    ------
    UserError
        If another store is at `out`.
    EnvironmentFault
        If a store can't be reached; what was written is used again.
    """
    settings = settings or IngestSettings()
    manifest = list_archive(archive)
    tables = read_egd(open_store(gaze)) if gaze else None
    store = open_store(out)
    _claim(store, manifest, gaze, settings)
    if store.exists("store.json"):
        return ShardStore.open(out)
    joined, counts = join(manifest, tables, settings)
    blocks = list(_cut(joined, settings.shard_rows))
    progress = IngestProgress(joined.num_rows)
    on_progress(progress)
    shards = []
    for shard, tally in _run(blocks, store, settings, workers):
        shards.append(shard)
        counts.update(tally)
        progress.done += tally["files"]
        on_progress(progress)
    info = StoreInfo(
        profile=settings.profile,
        profile_sha256=profile_sha256(settings.profile),
        manifest_sha256=manifest.sha256(),
        split=settings.split,
        shards=sorted(shards, key=lambda shard: shard.name),
        counts=dict(sorted(counts.items())),
    )
    store.put("store.json", info.model_dump_json(indent=2).encode())
    return ShardStore(store, info)


def _claim(store: Store, manifest: Manifest, gaze: str | None, settings: IngestSettings) -> None:
    """Write down what this store is made of, so that only the same ingest goes on with it."""
    wanted = {"manifest": manifest.sha256(), "gaze": gaze, "settings": settings.model_dump()}
    if store.put_if_absent("ingest.json", json.dumps(wanted, indent=2).encode()):
        return
    if json.loads(store.get("ingest.json")) != wanted:
        raise UserError(f"Another store is at {store.uri}.", "Use a new --out: a store is never changed.")


def join(manifest: Manifest, tables: EgdTables | None, settings: IngestSettings) -> tuple[pa.Table, Counter[str]]:
    """Join files with labels and gaze samples by image id, and count what did not join.

    Returns
    -------
    pa.Table
        `schemas.MANIFEST` with label (int8 or null) and samples (list of y, x in source pixels, or null).
    Counter
        ``archive_files``, ``left_out_unlabelled``, ``gaze_without_file``, ``file_without_gaze``, and the gaze
        reader's own counts with the prefix ``egd_``.
    """
    table, counts = manifest.table, Counter({"archive_files": manifest.table.num_rows})
    ids = table["image_id"].to_pylist()
    labels: list[int | None] = [None] * len(ids)
    samples: list[Any] = [None] * len(ids)
    if tables is not None:
        for index, image_id in enumerate(ids):
            study = tables.studies.get(image_id)
            labels[index] = study.label if study else None
            points = tables.samples(image_id)
            samples[index] = points.ravel() if len(points) else None
        with_gaze = {image_id for image_id, points in zip(ids, samples, strict=True) if points is not None}
        counts["gaze_without_file"] = len(tables.images_with_gaze - with_gaze)
        counts.update({f"egd_{name}": value for name, value in tables.counts.items()})
    table = table.append_column("label", pa.array(labels, pa.int8()))
    table = table.append_column("samples", pa.array(samples, pa.list_(pa.float64())))
    if settings.keep == "labelled" and tables is not None:
        useful = [label is not None or points is not None for label, points in zip(labels, samples, strict=True)]
        counts["left_out_unlabelled"] = len(useful) - sum(useful)
        table = table.filter(pa.array(useful))
    counts["file_without_gaze"] = table["samples"].null_count
    return table, counts


def _cut(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    for number, start in enumerate(range(0, table.num_rows, rows)):
        part = table.slice(start, rows).combine_chunks()
        yield part.append_column("shard", pa.array([number] * part.num_rows, pa.int32()))


def _run(
    blocks: list[pa.Table], store: Store, settings: IngestSettings, workers: int
) -> Iterator[tuple[ShardInfo, Counter[str]]]:
    if not blocks:
        return
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_arrow(blocks).map_batches(
        IngestShard,
        fn_constructor_args=(store.uri, settings),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
    )
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        assert isinstance(batch, pa.Table)
        for row in batch.to_pylist():
            yield ShardInfo.model_validate_json(row["shard"]), Counter(json.loads(row["tally"]))


class IngestShard:
    """Decode the files of one shard and write it with its rejects."""

    def __init__(self, store_uri: str, settings: IngestSettings) -> None:
        self._store = open_store(store_uri)
        self._settings = settings
        self._decoder = Decoder(settings.profile, reading=Reading(frontal_only=True))

    def __call__(self, block: pa.Table) -> pa.Table:
        number = block["shard"][0].as_py()
        name, rejects_name = f"shards/shard-{number:05d}.parquet", f"rejects/shard-{number:05d}.parquet"
        if not self._store.exists(name):
            rows, rejects = self._decode(block)
            self._store.put(rejects_name, _parquet(rejects, schemas.REJECTS))
            self._store.put(name, _parquet(rows, schemas.STORE_SHARD))
        data = self._store.get(name)
        rows_table = pq.read_table(io.BytesIO(data), columns=["split", "label"])
        rejected = pq.read_table(io.BytesIO(self._store.get(rejects_name)))
        info = ShardInfo(name=name, rows=rows_table.num_rows, sha256=hashlib.sha256(data).hexdigest())
        tally = _tally(rows_table, rejected)
        return pa.table({"shard": [info.model_dump_json()], "tally": [json.dumps(tally)]})

    def _decode(self, block: pa.Table) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        rows, rejects = [], []
        for planned in block.to_pylist():
            ids = {name: planned[name] for name, _ in schemas.ID_FIELDS}
            try:
                rows.append(ids | self._row(planned))
                telemetry.record(telemetry.IMAGES, job="ingest", status="scored", reason="none")
            except RadiographError as error:
                status = str(status_of(error.reason))
                rejects.append(ids | {"status": status, "reason_code": str(error.reason), "detail": error.message})
                telemetry.record(telemetry.IMAGES, job="ingest", status=status, reason=str(error.reason))
        return rows, rejects

    def _row(self, planned: dict[str, Any]) -> dict[str, Any]:
        decoded = self._decoder.decode(fetch_listed(planned))
        row = {
            "split": split_of(planned["subject_id"] or planned["image_id"], self._settings.split),
            "label": planned["label"],
            "image": decoded.pixels.astype("<u2").tobytes(),
            "affine": asdict(decoded.affine),
            **decoded.facts,
        }
        if planned["samples"] is not None:
            points = np.asarray(planned["samples"], np.float64).reshape(-1, 2)
            row |= pack_gaze(gaze_map(points, decoded.affine, self._settings.gaze_profile))
        return row


def _tally(rows: pa.Table, rejects: pa.Table) -> dict[str, int]:
    tally = Counter({"files": rows.num_rows + rejects.num_rows, "images": rows.num_rows})
    tally.update(f"split_{split}" for split in rows["split"].to_pylist())
    tally.update(f"label_{CLASSES[label]}" for label in rows["label"].to_pylist() if label is not None)
    tally.update(f"reject_{reason}" for reason in rejects["reason_code"].to_pylist())
    return dict(tally)


def _parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()
