"""A bundle on a store's split, or a run against known labels and gaze: metrics with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray import saliency
from cxrgaze_ray.bundle import Bundle
from cxrgaze_ray.errors import RadiographError, UserError
from cxrgaze_ray.gaze.egd import EgdTables
from cxrgaze_ray.gaze.heatmap import gaze_map
from cxrgaze_ray.metrics import (
    DiagnosisMetrics,
    Interval,
    SaliencyMetrics,
    bootstrap,
    correlation,
    diagnosis_metrics,
    histogram_similarity,
    kl_divergence,
    saliency_metrics,
)
from cxrgaze_ray.predictor import Engine, Predictor, limit_threads
from cxrgaze_ray.runs import Run
from cxrgaze_ray.schemas import CLASSES, Affine
from cxrgaze_ray.shards import ShardStore
from cxrgaze_ray.shards.store import gaze_density, image_array

_CHUNK = 16


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a set of images; None where nothing was known to compare with.

    Attributes
    ----------
    diagnosis, saliency
        Of the labelled images, and of those with gaze.
    intervals
        95% bootstrap intervals clustered by patient: auc_macro, accuracy, cc.
    note
        What does not hold of these figures, for people.
    """

    images: int
    diagnosis: DiagnosisMetrics | None
    saliency: SaliencyMetrics | None
    intervals: dict[str, Interval | None]
    note: str = ""


@dataclass
class _Collected:
    """What was seen so far."""

    probabilities: list[NDArray[np.float32]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    pairs: list[tuple[float, float | None, float]] = field(default_factory=list)
    gaze_patients: list[str] = field(default_factory=list)
    images: int = 0

    def add_label(self, probabilities_K: NDArray[np.float32], label: int | None, patient: str) -> None:
        if label is not None:
            self.probabilities.append(probabilities_K)
            self.labels.append(label)
            self.patients.append(patient)

    def add_gaze(
        self, gaze_HW: NDArray[np.float32], density_HW: NDArray[np.float32], patient: str, *, kl: bool
    ) -> None:
        divergence = kl_divergence(gaze_HW, density_HW) if kl else float("nan")
        self.pairs.append((divergence, correlation(gaze_HW, density_HW), histogram_similarity(gaze_HW, density_HW)))
        self.gaze_patients.append(patient)

    def evaluation(self, note: str = "") -> Evaluation:
        intervals = _intervals(self)
        return Evaluation(
            images=self.images,
            diagnosis=diagnosis_metrics(np.stack(self.probabilities), np.array(self.labels)) if self.labels else None,
            saliency=saliency_metrics(self.pairs) if self.pairs else None,
            intervals=intervals,
            note=note,
        )


def evaluate_bundle(
    bundle: Bundle,
    store: ShardStore,
    split: str,
    *,
    engine: Engine | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Evaluation:
    """Evaluate a bundle on a split of a shard store, with the predictor that scoring uses.

    Raises
    ------
    UserError
        If the split is empty.
    BundleError
        If the store's profile is not the bundle's.
    """
    limit_threads(None)
    predictor = Predictor.from_bundle(bundle, engine)
    predictor.check_profile(store.info.profile)
    total, seen = store.rows(split), _Collected()
    if not total:
        raise UserError(f"The store has no image in the split {split}.", "Splits are train, validation and test.")
    for table in store.tables(split):
        for start in range(0, table.num_rows, _CHUNK):
            _predict(predictor, table.slice(start, _CHUNK), seen)
            on_progress(seen.images, total)
    return seen.evaluation()


def _predict(predictor: Predictor, table: pa.Table, seen: _Collected) -> None:
    result = predictor.predict(image_array(table["image"]))
    rows = table.select(["image_id", "subject_id", "label", "gaze"]).to_pylist()
    for row, probabilities, density in zip(rows, result.probabilities_BK, result.saliency_BHW, strict=True):
        patient = row["subject_id"] or row["image_id"]
        seen.images += 1
        seen.add_label(probabilities, row["label"], patient)
        if row["gaze"] is not None:
            seen.add_gaze(gaze_density(row["gaze"]), density, patient, kl=True)


def evaluate_run(run: Run, truth: EgdTables) -> Evaluation:
    """Compare a run's rows with labels and gaze that are known elsewhere, by image id.

    KL is left out: stored maps have 8 bits.
    """
    seen = _Collected()
    columns = ["image_id", "subject_id", "status", *[f"p_{name}" for name in CLASSES], "saliency_png", "affine"]
    for table in run.tables(columns):
        for row in table.filter(pc.equal(table["status"], "scored")).to_pylist():
            study = truth.studies.get(row["image_id"])
            patient = row["subject_id"] or row["image_id"]
            seen.images += 1
            probabilities = np.array([row[f"p_{name}"] for name in CLASSES], np.float32)
            seen.add_label(probabilities, study.label if study else None, patient)
            try:
                gaze = gaze_map(truth.samples(row["image_id"]), Affine(**row["affine"]))
            except RadiographError:
                continue  # nobody looked at this image, or only past it
            seen.add_gaze(gaze, saliency.decode(row["saliency_png"]), patient, kl=False)
    return seen.evaluation("KL is not computed from a run: its stored maps have 8 bits.")


def _intervals(seen: _Collected) -> dict[str, Interval | None]:
    intervals: dict[str, Interval | None] = {}
    if seen.labels:
        probabilities, labels = np.stack(seen.probabilities), np.array(seen.labels)
        hits = (probabilities.argmax(axis=1) == labels).astype(float)
        intervals["auc_macro"] = bootstrap(
            lambda index: diagnosis_metrics(probabilities[index], labels[index]).auc_macro, seen.patients, rounds=200
        )
        intervals["accuracy"] = bootstrap(lambda index: float(hits[index].mean()), seen.patients)
    correlations = [(pair[1], patient) for pair, patient in zip(seen.pairs, seen.gaze_patients, strict=True)]
    defined = [(value, patient) for value, patient in correlations if value is not None]
    if defined:
        values = np.array([value for value, _ in defined])
        intervals["cc"] = bootstrap(lambda index: float(values[index].mean()), [patient for _, patient in defined])
    return intervals


def evaluation_rows(result: Evaluation) -> list[list[str]]:
    """Return (metric, value, interval) rows for a table."""
    rows = [["images", str(result.images), ""]]
    if result.diagnosis:
        found = result.diagnosis
        rows += [[f"AUC {name}", _number(value), ""] for name, value in found.auc.items()]
        rows += [["AUC macro", _number(found.auc_macro), _span(result.intervals.get("auc_macro"))]]
        rows += [["AUC micro", _number(found.auc_micro), ""]]
        rows += [["accuracy", _number(found.accuracy), _span(result.intervals.get("accuracy"))]]
    if result.saliency:
        maps = result.saliency
        rows += [["saliency CC", _number(maps.cc), _span(result.intervals.get("cc"))]]
        rows += [["saliency HS", _number(maps.hs), ""]]
        rows += [["saliency KL", _number(maps.kl), ""]] if np.isfinite(maps.kl) else []
    return rows


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _span(interval: Interval | None) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}" if interval else ""
