"""A bundle on a store's split, or a run against known labels and gaze: a table, and its metrics with intervals."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray.cluster.connection import Connect
from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.evaluation.answers import Labelled, PoolSettings, table_of_bundle
from cxrgaze_ray.evaluation.maps import score_map
from cxrgaze_ray.evaluation.metrics import (
    DiagnosisMetrics,
    Evaluation,
    ImageScore,
    SaliencyMetrics,
    diagnosis_metrics,
    saliency_metrics,
)
from cxrgaze_ray.evaluation.statistics import Interval, draw_patients, interval, statistic_of
from cxrgaze_ray.evaluation.table import (
    FACETS,
    UNKNOWN,
    EvaluationTable,
    EvaluationTableBuilder,
    ImageScores,
    MapScores,
    Target,
)
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.gaze.egd import EgdTables
from cxrgaze_ray.gaze.heatmap import Samples, map_readings
from cxrgaze_ray.schemas import CLASSES, Affine
from cxrgaze_ray.scoring.runs import Run

if TYPE_CHECKING:
    from cxrgaze_ray.models.bundle import Bundle

_ROUNDS, _SEED = 500, 0
"""Rounds and seed of every recorded interval: with others, those of earlier bundles could not be reproduced."""

_MAP_NOTE = "KL is not computed from a run: its stored maps have 8 bits."


def table_of_run(run: Run, truth: EgdTables, *, known_only: bool = False) -> EvaluationTable:
    """Join a run's scored rows to labels and gaze known elsewhere, by image id; KL stays unknown.

    Parameters
    ----------
    known_only
        Leave out images with neither a known label nor gaze: those of a large run would fill the memory.
    """
    builder = EvaluationTableBuilder(run.spec.predicts)
    columns = [
        "image_id", "subject_id", "status", *[f"p_{name}" for name in CLASSES],
        "saliency_png", "saliency_peak", "affine", *FACETS,
    ]  # fmt: skip
    for table in run.tables(columns):
        wanted = pc.equal(table["status"], "scored")
        if known_only:
            wanted = pc.and_(wanted, truth.know(table["image_id"]))
        for row in table.filter(wanted).to_pylist():
            study = truth.study(row["image_id"])
            probabilities = np.array([row[f"p_{name}"] for name in CLASSES], np.float32)
            label = study.label if study else None
            maps = _against(row, truth) if "saliency" in run.spec.predicts else None
            builder.add(row["image_id"], row["subject_id"], label, probabilities, maps, row)
    return builder.build()


def _against(row: dict[str, Any], truth: EgdTables) -> ImageScores | None:
    try:
        read = map_readings([Samples(truth.samples(row["image_id"]))], Affine.of(row["affine"]))
    except RadiographError:
        return None  # nobody looked at this image, or only beside it
    if row["saliency_peak"] == 0:  # a map of zeros would be drawn as a uniform one, which it is not
        return ImageScores(MapScores())
    scores = score_map(read.density_HW, saliency.decode(row["saliency_png"]), read.looks[0])
    return ImageScores(scores._replace(kl=None))


def evaluate_bundle(
    bundle: Bundle,
    store: Labelled,
    split: str,
    *,
    connect: Connect = nullcontext,
    pool: PoolSettings | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Evaluation:
    """Evaluate a bundle on a split of a shard store, whose caution becomes the note: see `table_of_bundle`."""
    table = table_of_bundle(bundle, store, split, connect=connect, pool=pool, on_progress=on_progress)
    return evaluate(table, store.info.caution())


def evaluate_run(run: Run, truth: EgdTables) -> Evaluation:
    """Compare a run's rows with labels and gaze known elsewhere, by image id."""
    return evaluate(table_of_run(run, truth), _MAP_NOTE if "saliency" in run.spec.predicts else "")


def evaluate(table: EvaluationTable, note: str = "") -> Evaluation:
    """Compute the metrics of a table, with intervals clustered by patient; what is not predicted is left out."""
    labelled = table.labelled()
    diagnosis = diagnosis_metrics(labelled.probabilities_NK, labelled.labels_N) if _judged(labelled) else None
    seen = table.take(table.seen_N) if "saliency" in table.predicts else table.take(np.empty(0, np.intp))
    saliency = _summary(seen.maps_NM)
    centre, readers = (_summary(scores_NM[_any(scores_NM)]) for scores_NM in (seen.centre_NM, seen.readers_NM))
    return Evaluation(
        images=len(table),
        diagnosis=diagnosis,
        saliency=saliency,
        intervals=_label_intervals(labelled, diagnosis) | _map_intervals(seen),
        note=note,
        scores=tuple(_score(table, place) for place in range(len(table))),
        centre=centre,
        readers=readers,
        missing=_missing(table, diagnosis) | (_missing_beside(seen, centre, readers) if saliency else {}),
    )


def _judged(labelled: EvaluationTable) -> bool:
    return len(labelled) > 0 and "classes" in labelled.predicts


def _summary(scores_NM: NDArray[np.float64]) -> SaliencyMetrics | None:
    scores = [MapScores(*map(_known, row)) for row in scores_NM]
    return saliency_metrics(scores) if scores else None


def _any(scores_NM: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((~np.isnan(scores_NM)).any(axis=1))


def _missing(table: EvaluationTable, diagnosis: DiagnosisMetrics | None) -> dict[str, str]:
    """Say why there are no figures of what the model predicts."""
    why = {"diagnosis": "no image has a label"} if "classes" in table.predicts and diagnosis is None else {}
    if "saliency" in table.predicts and not table.seen_N.any():
        why["saliency"] = "no image has gaze"
    return why


def _missing_beside(
    seen: EvaluationTable, centre: SaliencyMetrics | None, readers: SaliencyMetrics | None
) -> dict[str, str]:
    """Say why a table has nothing to see saliency beside."""
    kept_apart = not np.isnan(seen.scores("nss")).all()
    alone = "no image has two readers" if kept_apart else "not known: readers are not kept apart"
    why = {"centre": "not known: it takes a training split with gaze", "readers": alone}
    return {name: why[name] for name, beside in (("centre", centre), ("readers", readers)) if beside is None}


def _score(table: EvaluationTable, place: int) -> ImageScore:
    label = int(table.labels_N[place])
    p_true = None if label == UNKNOWN else _known(table.probabilities_NK[place, label])
    known = None if label == UNKNOWN else label
    return ImageScore(table.image_ids[place], known, p_true, _known(table.scores("cc")[place]))


def _known(value: np.floating[Any]) -> float | None:
    return None if np.isnan(value) else float(value)


def _label_intervals(labelled: EvaluationTable, metrics: DiagnosisMetrics | None) -> dict[str, Interval | None]:
    if metrics is None:
        return {}
    draws = draw_patients(labelled.patients, _ROUNDS, _SEED)
    values: dict[Target, float | None] = {
        "auc_macro": metrics.auc_macro, "accuracy": metrics.accuracy, "ece": metrics.ece,
    }  # fmt: skip
    return {name: interval(value, draws.apply(statistic_of(labelled, name))) for name, value in values.items()}


def _map_intervals(seen: EvaluationTable) -> dict[str, Interval | None]:
    found: dict[str, Interval | None] = {}
    names: tuple[Target, ...] = ("cc", "nss", "sauc")
    for name in names:
        defined = seen.take(~np.isnan(seen.scores(name)))
        if len(defined):
            draws = draw_patients(defined.patients, _ROUNDS, _SEED)
            found[name] = interval(float(defined.scores(name).mean()), draws.apply(statistic_of(defined, name)))
    return found
