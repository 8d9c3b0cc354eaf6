"""A small finished shard store, written directly: images whose brightness tells their class, gaze in one place."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cxrgaze_ray.gaze.heatmap import LOOK, ReadImage
from cxrgaze_ray.gaze.packed import GAZE_COLUMNS, pack_readings
from cxrgaze_ray.radiograph.preprocess import DEFAULT_PROFILE, fit, profile_sha256
from cxrgaze_ray.schemas import CLASSES, HEIGHT, STORE_SHARD, WIDTH
from cxrgaze_ray.shards import ShardStore, SplitSettings, StoreInfo
from cxrgaze_ray.shards.store import ShardInfo
from cxrgaze_ray.storage import open_store

AFFINE = asdict(fit(1280, 1024))


def write_store(
    folder: Path | str,
    patients: dict[str, int],
    *,
    prefix: str = "a",
    labelled: bool = True,
    profile: str | None = None,
    unseen: str = "",
) -> ShardStore:
    """Write a store of so many patients a split, an image each; the same arguments write the same bytes.

    `unseen` names a split that nobody looked at.
    """
    rows = [
        _row(f"{prefix}-{split}-{number}", split, number, labelled=labelled, seen=split != unseen)
        for split, count in patients.items()
        for number in range(count)
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=STORE_SHARD), buffer, compression="zstd")
    store, name = open_store(str(folder)), "shards/shard-00000.parquet"
    store.put(name, buffer.getvalue())
    counts = Counter({"images": len(rows), "images_with_gaze": sum(row["gaze"] is not None for row in rows)})
    counts.update(f"split_{row['split']}" for row in rows)
    counts.update(f"label_{CLASSES[row['label']]}" for row in rows if row["label"] is not None)
    info = StoreInfo(
        profile=DEFAULT_PROFILE,
        profile_sha256=profile or profile_sha256(DEFAULT_PROFILE),
        manifest_sha256=prefix,
        split=SplitSettings(),
        shards=[ShardInfo(name=name, rows=len(rows), sha256=hashlib.sha256(buffer.getvalue()).hexdigest())],
        counts=dict(counts),
    )
    store.put("store.json", info.model_dump_json().encode())
    return ShardStore(store, info)


def _row(patient: str, split: str, number: int, *, labelled: bool, seen: bool) -> dict[str, Any]:
    label = number % len(CLASSES)
    rng = np.random.default_rng([number, len(split)])
    image = np.full((HEIGHT, WIDTH), 12_000 + 15_000 * label, np.uint16) + rng.integers(0, 2000, (HEIGHT, 1), np.uint16)
    gaze = np.zeros((HEIGHT, WIDTH), np.float32)
    gaze[200:260, 150:220] = 1
    looks = np.array([(200 + number % 60, 150 + number % 70, 1.0), (230, 185, 2.0)], LOOK)
    return {
        "image_id": f"image-{patient}", "subject_id": patient, "study_id": f"study-{patient}", "repeated_id": False,
        "split": split, "label": label if labelled else None, "image": image.astype("<u2").tobytes(), "affine": AFFINE,
        "sex": "F" if number % 2 else "M", "manufacturer": "Ostia Medical", "view_position": "PA", "age_band": "40-49",
        **(pack_readings(ReadImage(gaze / gaze.sum(), (looks,))) if seen else dict.fromkeys(GAZE_COLUMNS)),
    }  # fmt: skip
