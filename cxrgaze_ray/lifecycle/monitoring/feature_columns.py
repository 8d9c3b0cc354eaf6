"""Feature columns of one side of a comparison: several runs as one table that holds each image once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.lifecycle.drift import effective_patients
from cxrgaze_ray.lifecycle.monitoring.report import Side
from cxrgaze_ray.lifecycle.monitoring.settings import MonitorSettings
from cxrgaze_ray.lifecycle.monitoring.trend import trend_of
from cxrgaze_ray.schemas import CLASSES, RESULT
from cxrgaze_ray.scoring.runs import Run

CATEGORIES = (
    "view_position", "manufacturer", "device_model", "bits_stored", "photometric", "transfer_syntax", "sex", "age_band",
)  # fmt: skip
"""Facts of a file that are compared by category."""

SIZES = ("rows", "columns")
INTENSITIES = ("intensity_p1", "intensity_p50", "intensity_p99", "intensity_mean")
PROBABILITIES = tuple(f"p_{name}" for name in CLASSES)
MAP_STATISTICS = ("entropy", "centre_y", "centre_x", "central_mass")

_IDS = ("image_id", "subject_id")
_COLUMNS = (
    "shard", "position", *_IDS, "status", "reason_code", "prediction", *CATEGORIES, "photometric_check", "view_source",
    *SIZES, *INTENSITIES, *PROBABILITIES,
)  # fmt: skip


@dataclass(frozen=True)
class FeatureTable:
    """Features of some of a side's images, one row per image, and the images' patients.

    Attributes
    ----------
    table
        Columns of `schemas.RESULT` or of `MAP_STATISTICS`.
    group_N
        Index of each row's patient.
    images_P
        Number of rows of each patient; an image without a patient id counts as a patient.
    """

    table: pa.Table
    group_N: NDArray[np.int64]
    images_P: NDArray[np.int64]

    @classmethod
    def of(cls, table: pa.Table) -> FeatureTable:
        """Count the patients of a table with the column ``patient``."""
        _, group_N, images_P = np.unique(table["patient"].to_numpy(), return_inverse=True, return_counts=True)
        return cls(table, group_N, images_P)

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len(self.images_P)

    @cached_property
    def effective(self) -> float:
        """Effective number of patients: see `drift.effective_patients`."""
        return effective_patients(self.images_P)


@dataclass(frozen=True)
class SideFeatures:
    """Features of all rows of a side, of its scored rows, and of a sample of its maps."""

    side: Side
    everything: FeatureTable
    scored: FeatureTable
    maps: FeatureTable
    without_patient: int
    """Number of scored images whose patient is unknown."""


def read_features(
    runs: Sequence[Run],
    settings: MonitorSettings,
    *,
    maps: bool = True,
    on_shard: Callable[[], None] = lambda: None,
) -> SideFeatures:
    """Read the columns to compare from some runs; a row takes less than 1 kB of memory.

    Parameters
    ----------
    runs
        Finished runs. If several hold an image, the row of the run that was planned last counts.
    maps
        Whether to read saliency maps.
    on_shard
        Called for every shard whose columns are read.
    """
    ordered = sorted(runs, key=lambda run: run.spec.created_at)
    parts, seen = [], np.empty(0, np.uint64)
    for number, run in reversed(list(enumerate(ordered))):
        part = _read(run, number, on_shard)
        parts.append(part.filter(pa.array(~np.isin(part["image"].to_numpy(), seen))))
        seen = np.concatenate([seen, part["image"].to_numpy()])
    table = pa.concat_tables(reversed(parts)).unify_dictionaries().combine_chunks()
    scored = table.filter(pc.equal(table["status"].cast(pa.string()), "scored"))
    sample = _sample_maps(ordered, scored, settings) if maps else _no_maps()
    everything = FeatureTable.of(table)
    unknown = pc.sum(pc.invert(scored["has_patient"])).as_py() or 0
    return SideFeatures(
        _side(ordered, everything), everything, FeatureTable.of(scored), FeatureTable.of(sample), unknown
    )


def _side(runs: Sequence[Run], rows: FeatureTable) -> Side:
    statuses = rows.table["status"].cast(pa.string()).value_counts().to_pylist()
    counts = {entry["values"]: entry["counts"] for entry in statuses}
    return Side(
        runs=tuple(run.store.uri for run in runs),
        images=rows.table.num_rows,
        patients=rows.patients,
        scored=counts.get("scored", 0),
        skipped=counts.get("skipped", 0),
        failed=counts.get("failed", 0),
        first_at=runs[0].spec.created_at,
        last_at=max(_finished_at(run) for run in runs),
        models=tuple(sorted({f"{run.spec.model.name}@{run.spec.model.version}" for run in runs})),
        weights=tuple(sorted({run.spec.model.weights_sha256 for run in runs})),
        trend=trend_of(runs, rows.table),
    )


def _finished_at(run: Run) -> str:
    success = run.success()
    if success is None:
        raise UserError(f"The run at {run.store.uri} is unfinished.", "Finish it: run the command that began it again.")
    return success.finished_at


def _read(run: Run, number: int, on_shard: Callable[[], None]) -> pa.Table:
    """Read a run's columns: identifiers as hashes, texts as dictionaries."""
    tables = []
    for table in run.tables(list(_COLUMNS)):
        tables.append(_compact(run, table, number))
        on_shard()
    empty = RESULT.empty_table().select(list(_COLUMNS))
    return pa.concat_tables(tables or [_compact(run, empty, number)]).unify_dictionaries()


def _compact(run: Run, table: pa.Table, number: int) -> pa.Table:
    where = run.spec.request.archive if run.spec.layout == "tree" else ""  # in a tree an id is the hash of a path
    images = table["image_id"].to_pylist()
    patients = table["subject_id"].to_pylist()
    image_N = _hashes([f"{where}\0{image}" for image in images])
    patient_N = [f"i\0{i}" if p is None else f"p\0{p}" for p, i in zip(patients, images, strict=True)]
    columns = {
        name: column.dictionary_encode() if pa.types.is_string(column.type) else column
        for name, column in zip(table.column_names, table.columns, strict=True)
        if name not in _IDS
    }
    more = {
        "run": pa.array(np.full(table.num_rows, number, np.int16)),
        "image": pa.array(image_N),
        "patient": pa.array(_hashes(patient_N)),
        "has_patient": pc.is_valid(table["subject_id"]),
    }
    return pa.table(columns | more)


def _hashes(texts: list[str]) -> NDArray[np.uint64]:
    """Return 64 bits of each text's hash: enough to tell a million texts apart."""
    return np.frombuffer(b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts), np.uint64)


def _no_maps() -> pa.Table:
    return pa.table(
        {name: pa.array([], pa.float64()) for name in MAP_STATISTICS} | {"patient": pa.array([], pa.uint64())}
    )


def _sample_maps(runs: Sequence[Run], scored: pa.Table, settings: MonitorSettings) -> pa.Table:
    """Decode the maps of the images with the smallest hashes: always the same ones."""
    chosen = np.sort(np.argsort(scored["image"].to_numpy(), kind="stable")[: settings.saliency_sample])
    sample = scored.select(["run", "shard", "position", "patient"]).take(pa.array(chosen))
    wanted: dict[int, dict[tuple[int, int], int]] = {}
    for row in sample.to_pylist():
        wanted.setdefault(row["run"], {})[row["shard"], row["position"]] = row["patient"]
    statistics: list[tuple[float, ...]] = []
    whose: list[int] = []
    for number, places in sorted(wanted.items()):
        for table in runs[number].tables(["shard", "position", "saliency_png"], {shard for shard, _ in places}):
            for row in table.to_pylist():
                patient = places.get((row["shard"], row["position"]))
                if patient is not None:
                    statistics.append(map_statistics(saliency.decode_small(row["saliency_png"]), settings.central_box))
                    whose.append(patient)
    values = np.array(statistics, np.float64).reshape(-1, len(MAP_STATISTICS))
    columns = {name: pa.array(values[:, place]) for place, name in enumerate(MAP_STATISTICS)}
    return pa.table(columns | {"patient": pa.array(whose, pa.uint64())})


def map_statistics(
    density_HW: NDArray[np.float32], box: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """Return statistics of a map that sums to 1, in the order of `MAP_STATISTICS`.

    Returns
    -------
    entropy
        Entropy as a fraction of a uniform map's, in [0,1]: low if a map points at one place.
    centre_y, centre_x
        Centre of mass, as fractions of height and width.
    central_mass
        Share of the mass in the box (top, left, bottom, right), given as fractions.
    """
    height, width = density_HW.shape
    rows, columns = density_HW.sum(axis=1, dtype=np.float64), density_HW.sum(axis=0, dtype=np.float64)
    seen = density_HW[density_HW > 0].astype(np.float64)
    entropy = float(-(seen * np.log(seen)).sum() / np.log(density_HW.size))
    centre_y = float(rows @ (np.arange(height) + 0.5)) / height
    centre_x = float(columns @ (np.arange(width) + 0.5)) / width
    top, left, bottom, right = (round(part * size) for part, size in zip(box, (height, width) * 2, strict=True))
    return entropy, centre_y, centre_x, float(density_HW[top:bottom, left:right].sum(dtype=np.float64))
