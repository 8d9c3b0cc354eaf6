"""The quality of predictions whose labels or gaze have arrived: both sides, overall and by subgroup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.evaluate import table_of_run
from cxrgaze_ray.evaluation.statistics import (
    Draws,
    Statistic,
    draw_patients,
    lower_is_better,
    mean,
    statistic_of,
    value_of,
)
from cxrgaze_ray.evaluation.table import FACETS, UNKNOWN, EvaluationTable, Target
from cxrgaze_ray.gaze.egd import EgdTables
from cxrgaze_ray.lifecycle.drift import Drop
from cxrgaze_ray.lifecycle.monitoring.features import Comparison, absent
from cxrgaze_ray.lifecycle.monitoring.report import Finding
from cxrgaze_ray.lifecycle.monitoring.settings import MonitorSettings, Thresholds
from cxrgaze_ray.models.settings import Answer
from cxrgaze_ray.scoring.runs import Run

MetricName = Literal["auc_macro", "ece", "cc", "kl", "hs"]


@dataclass(frozen=True)
class QualityMetric:
    """A metric of the quality of predictions, and how it compares two sides.

    Attributes
    ----------
    title
        Name of the metric, for people.
    answer
        What a model must predict to have it.
    known
        Tells for each image whether the metric can use it.
    statistic
        Turns a table of images that the metric can use into a function that computes it under weights.
    lower_is_better
        Whether lower values are better.
    grows_when_few
        Whether chance alone raises it when images are few: then it is compared at equal numbers of patients.
    """

    title: str
    answer: Answer
    known: Callable[[EvaluationTable], NDArray[np.bool_]]
    statistic: Callable[[EvaluationTable], Statistic]
    lower_is_better: bool = False
    grows_when_few: bool = False


def _of_labels(title: str, target: Target, *, grows_when_few: bool = False) -> QualityMetric:
    """Return one of the gate's metrics, for labelled images of a model that predicts classes."""
    return QualityMetric(
        title,
        "classes",
        lambda table: (table.labels_N != UNKNOWN) & np.isfinite(table.probabilities_NK).all(axis=1),
        lambda table: statistic_of(table, target),
        lower_is_better(target),
        grows_when_few,
    )


def _of_maps(title: str, name: Literal["cc", "kl", "hs"], *, lower_is_better: bool = False) -> QualityMetric:
    """Return a metric that is a mean over images that somebody looked at."""

    def per_image(table: EvaluationTable) -> NDArray[np.float64]:
        return table.scores(name)

    return QualityMetric(
        title,
        "saliency",
        lambda table: ~np.isnan(per_image(table)),
        lambda table: lambda weights_NR: mean(per_image(table), weights_NR),
        lower_is_better,
    )


QUALITY_METRICS: dict[MetricName, QualityMetric] = {
    "auc_macro": _of_labels("AUC macro", "auc_macro"),
    "ece": _of_labels("Calibration error", "ece", grows_when_few=True),
    "cc": _of_maps("Saliency CC", "cc"),
    "kl": _of_maps("Saliency KL", "kl", lower_is_better=True),
    "hs": _of_maps("Saliency HS", "hs"),
}

QUALITY_ANSWERS: dict[str, Answer] = {name: metric.answer for name, metric in QUALITY_METRICS.items()}
"""What a model must predict to have a metric."""


def quality(name: MetricName, table: EvaluationTable) -> float | None:
    """Return the value of a metric on the images that it can use; None where they leave it undefined."""
    return _value(name, table.take(QUALITY_METRICS[name].known(table)))


def _value(name: MetricName, known: EvaluationTable) -> float | None:
    return value_of(QUALITY_METRICS[name].statistic(known), len(known))


def table_of_runs(runs: Sequence[Run], truth: EgdTables) -> EvaluationTable:
    """Join a side's rows to their labels and gaze; if an image is in several runs, the newest row counts."""
    newest = sorted(runs, key=lambda run: run.spec.created_at, reverse=True)
    tables, seen = [], set[str]()
    for run in newest:
        table = table_of_run(run, truth, known_only=True)
        new = np.array([image not in seen for image in table.image_ids], np.bool_)
        seen.update(table.image_ids)
        tables.append(table.take(new).to_table())
    return EvaluationTable.from_table(pa.concat_tables(tables))


def compare_performance(
    baseline: EvaluationTable, current: EvaluationTable, settings: MonitorSettings
) -> Iterator[Comparison | Finding]:
    """Yield how much worse each metric is, overall and in each subgroup that both sides have."""
    for name in QUALITY_METRICS:
        yield _overall(name, baseline, current, settings)
    for facet in FACETS:
        values = {value for value in current.facets[facet] if value is not None} & {*baseline.facets[facet]}
        for value in sorted(values):
            before, after = (_part(side, facet, value) for side in (baseline, current))
            for name in QUALITY_METRICS:
                comparison = _compare(name, before, after, settings, f"{facet}={value}")
                if comparison is not None:
                    yield comparison


def _part(side: EvaluationTable, facet: str, value: str) -> EvaluationTable:
    return side.take(np.array([stated == value for stated in side.facets[facet]], np.bool_))


def absent_performance(settings: MonitorSettings, why: str) -> Iterator[Finding]:
    """Yield the findings of a report without labels."""
    for name in QUALITY_METRICS:
        yield absent("performance", name, _threshold(name, settings.thresholds), why)


def _overall(
    name: MetricName, baseline: EvaluationTable, current: EvaluationTable, settings: MonitorSettings
) -> Comparison | Finding:
    comparison = _compare(name, baseline, current, settings, None)
    if comparison is not None:
        return comparison
    lacking = "labels" if name in ("auc_macro", "ece") else "gaze"
    why = f"{QUALITY_METRICS[name].title}: a side lacks the {lacking}, or the predictions, for it."
    return absent("performance", name, _threshold(name, settings.thresholds), why)


def _threshold(name: MetricName, thresholds: Thresholds, subgroup: str | None = None) -> float:
    own = float(getattr(thresholds, "auc" if name == "auc_macro" else name))
    return own if subgroup is None else max(own, thresholds.subgroup)


def _compare(
    name: MetricName,
    baseline: EvaluationTable,
    current: EvaluationTable,
    settings: MonitorSettings,
    subgroup: str | None,
) -> Comparison | None:
    """Compare a metric by its bootstrap error on either side; None where a side has none."""
    metric = QUALITY_METRICS[name]
    sides = [side.take(metric.known(side)) for side in (baseline, current)]
    values = [value for side in sides if (value := _value(name, side)) is not None]
    if len(values) < len(sides):
        return None
    patients = [len(set(side.patients)) for side in sides]
    if metric.grows_when_few:
        values = [_of_some(name, side, min(patients), settings) for side in sides]
    errors = [_error(name, side, settings) for side in sides]
    return Comparison(
        family="performance",
        feature=name,
        change=Drop(values[0], values[1], -1 if metric.lower_is_better else 1, float(np.hypot(errors[0], errors[1]))),
        threshold=_threshold(name, settings.thresholds, subgroup),
        patients=min(patients),
        least=settings.subgroup_patients if subgroup else settings.least_patients,
        detail=f"{metric.title} {values[0]:.3f} and now {values[1]:.3f}, on {patients[0]} and {patients[1]} patients.",
        subgroup=subgroup,
    )


def _error(name: MetricName, side: EvaluationTable, settings: MonitorSettings) -> float:
    """Return the standard error of a metric, by drawing patients with replacement."""
    values_R = draw_patients(side.patients, settings.rounds, settings.seed).apply(QUALITY_METRICS[name].statistic(side))
    defined_R = values_R[np.isfinite(values_R)]
    return float(np.std(defined_R, ddof=1)) if len(defined_R) > 1 else 0.0


def _of_some(name: MetricName, side: EvaluationTable, patients: int, settings: MonitorSettings) -> float:
    """Return a metric's mean over draws of some of the patients: its value if there were no more of them."""
    names, patient_N = np.unique(np.array(side.patients, dtype=str), return_inverse=True)
    rounds = settings.rounds if patients < len(names) else 1
    order_PR = np.random.default_rng(settings.seed).random((len(names), rounds)).argsort(axis=0)
    chosen = Draws((order_PR < patients).astype(np.float32), patient_N.astype(np.int64))
    return float(np.nanmean(chosen.apply(QUALITY_METRICS[name].statistic(side))))
