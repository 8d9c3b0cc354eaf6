"""A bundle on a store's split, or a run against known labels and gaze: a table, and its metrics with intervals."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray.cluster.connection import Connect
from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.evaluation.answers import Labelled, PoolSettings, table_of_bundle
from cxrgaze_ray.evaluation.curves import curves_of
from cxrgaze_ray.evaluation.maps import score_map
from cxrgaze_ray.evaluation.metrics import (
    DiagnosisMetrics,
    Evaluation,
    ImageScore,
    SaliencyMetrics,
    diagnosis_metrics,
    saliency_metrics,
)
from cxrgaze_ray.evaluation.statistics import (
    Draws,
    Interval,
    brier_score,
    calibration_error,
    draw_patients,
    interval,
    log_loss,
    mean,
    micro_auc,
    statistic_of,
)
from cxrgaze_ray.evaluation.subgroups import LEAST_PATIENTS, subgroups
from cxrgaze_ray.evaluation.table import (
    FACETS,
    MAP_SCORES,
    UNKNOWN,
    EvaluationTable,
    EvaluationTableBuilder,
    ImageScores,
    MapScores,
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
    draws = draw_patients(labelled.patients, _ROUNDS, _SEED)
    diagnosis = diagnosis_metrics(labelled.probabilities_NK, labelled.labels_N) if _judged(labelled) else None
    seen = table.take(table.seen_N) if "saliency" in table.predicts else table.take(np.empty(0, np.intp))
    saliency = _summary(seen.maps_NM)
    centre, readers = (_summary(scores_NM[_any(scores_NM)]) for scores_NM in (seen.centre_NM, seen.readers_NM))
    intervals = _label_intervals(labelled, diagnosis, draws) | _map_intervals(seen)
    return Evaluation(
        images=len(table),
        diagnosis=diagnosis,
        saliency=saliency,
        intervals=intervals,
        note=note,
        scores=tuple(_score(table, place) for place in range(len(table))),
        centre=centre,
        readers=readers,
        missing=_missing(table, diagnosis) | (_missing_beside(seen, centre, readers) if saliency else {}),
        subgroups=subgroups(table.take((table.labels_N != UNKNOWN) | table.seen_N), _ROUNDS, _SEED),
        curves=curves_of(labelled.probabilities_NK, labelled.labels_N, draws) if diagnosis else None,
        reach=_reach(labelled, seen, intervals),
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


def _label_intervals(
    labelled: EvaluationTable, metrics: DiagnosisMetrics | None, draws: Draws
) -> dict[str, Interval | None]:
    if metrics is None:
        return {}
    probabilities_NK, labels_N = labelled.probabilities_NK, labelled.labels_N
    scores = {"auc_micro": micro_auc, "ece": calibration_error, "nll": log_loss, "brier": brier_score}
    found: dict[str, Interval | None] = {
        name: interval(getattr(metrics, name), draws.apply(partial(score, probabilities_NK, labels_N)))
        for name, score in scores.items()
    }
    drawn = {name: draws.apply(statistic_of(labelled, f"auc_{name}")) for name in metrics.auc}  # type: ignore[arg-type]
    found |= {f"auc_{name}": interval(metrics.auc[name], drawn[name]) for name in drawn}
    # the macro AUC is the mean of those that are defined: ranks need not be counted again
    defined = [values_R for name, values_R in drawn.items() if metrics.auc[name] is not None]
    found["auc_macro"] = interval(metrics.auc_macro, np.mean(defined, axis=0) if defined else np.empty(0))
    found["accuracy"] = interval(metrics.accuracy, draws.apply(statistic_of(labelled, "accuracy")))
    return found


def _map_intervals(seen: EvaluationTable) -> dict[str, Interval | None]:
    found: dict[str, Interval | None] = {}
    for name in MAP_SCORES:
        defined = seen.take(~np.isnan(seen.scores(name)))
        if len(defined):
            draws, score_N = draw_patients(defined.patients, _ROUNDS, _SEED), defined.scores(name)
            found[name] = interval(float(score_N.mean()), draws.apply(partial(mean, score_N)))
    return found


def _reach(labelled: EvaluationTable, seen: EvaluationTable, intervals: dict[str, Interval | None]) -> str:
    """Say what a test of this size can tell: half of an interval's width, and what it would take to halve that."""
    title, part, found = "macro AUC", labelled, intervals.get("auc_macro")
    if found is None:
        title, part, found = "CC of gaze maps", seen, intervals.get("cc")
    if found is None:
        return ""
    patients, half = len(set(part.patients)), (found.high - found.low) / 2
    counted = f"{len(part)} images of {patients} patient{'' if patients == 1 else 's'}"
    if patients < LEAST_PATIENTS or half == 0:
        return f"{counted} can't show how far the {title} is from what more would give."
    return (
        f"{counted} show the {title} to within about {half:.3f} either way, with 95% confidence: smaller differences "
        f"from another model's figure can be chance. Half of that takes about {4 * patients:,} patients."
    )
