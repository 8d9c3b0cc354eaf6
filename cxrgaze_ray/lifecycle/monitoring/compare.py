"""Compare two sides: what changed, whether it could be chance, and what it looks like."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.evaluation.table import UNKNOWN, EvaluationTable
from cxrgaze_ray.gaze.egd import EgdTables
from cxrgaze_ray.lifecycle.monitoring.feature_columns import SideFeatures, read_features
from cxrgaze_ray.lifecycle.monitoring.features import FEATURES, OF_THE_MODEL, Comparison, absent, compare_features
from cxrgaze_ray.lifecycle.monitoring.performance import (
    QUALITY_ANSWERS,
    absent_performance,
    compare_performance,
    quality,
    table_of_runs,
)
from cxrgaze_ray.lifecycle.monitoring.report import FAMILIES, Finding, MonitorReport, Side
from cxrgaze_ray.lifecycle.monitoring.settings import MonitorSettings
from cxrgaze_ray.lifecycle.monitoring.suspicions import suspect
from cxrgaze_ray.models.settings import BOTH
from cxrgaze_ray.scoring.runs import Run

_OTHER_WEIGHTS = (
    "Not compared: the sides were scored by different weights or temperatures, whose answers differ anyway."
)
_NO_LABELS = "No labels were given."


def monitor(
    baseline: Sequence[Run],
    current: Sequence[Run],
    settings: MonitorSettings | None = None,
    truth: EgdTables | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> MonitorReport:
    """Compare finished runs with finished runs.

    Parameters
    ----------
    baseline, current
        At least one run each: see `open_runs`.
    truth
        Labels and gaze that have arrived since then, by image id.
    on_progress
        Called with the number of shards that are read, and the number of all.

    Raises
    ------
    UserError
        If a run is unfinished, or not all of them have the same profile.
    """
    settings = settings or MonitorSettings()
    _check_profiles([*baseline, *current])
    same = len({run.spec.model.answers for run in [*baseline, *current]}) == 1
    predicted = {answer for run in [*baseline, *current] for answer in run.spec.predicts}
    compared = predicted if same else set()
    read, shards = itertools.count(1), sum(run.spec.shards for run in [*baseline, *current])
    before, after = (
        read_features(
            runs, settings, maps="saliency" in compared, on_shard=lambda: on_progress(min(next(read), shards), shards)
        )
        for runs in (baseline, current)
    )
    features = compare_features(before, after, settings)
    comparisons = [feature for feature in features if OF_THE_MODEL.get(feature.family) in {None, *compared}]
    tables = (table_of_runs(baseline, truth), table_of_runs(current, truth)) if truth else None
    labelled = absent_performance(settings, _NO_LABELS) if tables is None else compare_performance(*tables, settings)
    figures = [one for one in labelled if QUALITY_ANSWERS[one.feature] in predicted]
    findings = judge([*comparisons, *figures], settings.alpha)
    if not same:
        findings += [
            absent(family, name, getattr(settings.thresholds, family), _OTHER_WEIGHTS)
            for family, answer in OF_THE_MODEL.items()
            if answer in predicted
            for name in FEATURES[family]
        ]
    findings.sort(key=lambda finding: FAMILIES.index(finding.family))
    return MonitorReport(
        baseline=_labelled(before.side, tables[0]) if tables else before.side,
        current=_labelled(after.side, tables[1]) if tables else after.side,
        findings=tuple(findings),
        suspicions=suspect(findings),
        notes=tuple(_notes(before, after, baseline, current)),
        made_at=datetime.now(UTC).isoformat(),
        settings=settings,
    )


def judge(results: Sequence[Comparison | Finding], alpha: float) -> list[Finding]:
    """Judge comparisons together: `alpha` is divided among all that have enough patients (Bonferroni)."""
    looked_at = sum(isinstance(result, Comparison) and result.enough for result in results)
    share = alpha / max(1, looked_at)
    return [result.judge(share) if isinstance(result, Comparison) else result for result in results]


def _labelled(side: Side, table: EvaluationTable) -> Side:
    labelled = int((table.labels_N != UNKNOWN).sum())
    return side.model_copy(update={"labelled": labelled, "auc_macro": quality("auc_macro", table)})


def _check_profiles(runs: Sequence[Run]) -> None:
    profiles = sorted({run.spec.profile for run in runs})
    if len(profiles) > 1:
        raise UserError(
            f"The runs have different profiles: {' and '.join(profiles)}.",
            "Their images are prepared differently: score one side again with a model of the other's profile.",
        )


def _notes(before: SideFeatures, after: SideFeatures, baseline: Sequence[Run], current: Sequence[Run]) -> list[str]:
    notes = [*_notes_of_runs([*baseline, *current]), *_notes_of_time(before.side, after.side)]
    for name, rows in (("baseline", before), ("current side", after)):
        if rows.without_patient:
            notes.append(
                f"The patient is unknown for {rows.without_patient} of {rows.side.scored} scored images of the {name}: "
                "each counts as a patient, so chance may be underestimated."
            )
        if not rows.side.scored:
            notes.append(f"The {name} has no scored image.")
    both = len(np.intersect1d(*(rows.everything.table["image"].to_numpy() for rows in (before, after))))
    if both:
        notes.append(f"{both} images are on both sides.")
    return notes


def _notes_of_runs(runs: Sequence[Run]) -> list[str]:
    notes = []
    for answer in BOTH:
        if len({answer in run.spec.predicts for run in runs}) > 1:
            notes.append(f"Not all of the models predict {answer}: nothing is said of that.")
    if any(not run.spec.model.trained for run in runs):
        notes.append("The model of a run is untrained: its scores, predictions and maps mean nothing.")
    if len({run.spec.model.answers for run in runs}) > 1:
        notes.append(
            "The sides were scored by different weights or temperatures: scores, predictions and maps are not compared."
        )
    if len({run.spec.engine for run in runs}) > 1:
        notes.append("The sides were computed by different engines, which agree within a tolerance only.")
    for option in ("view", "decode"):
        if len({getattr(run.spec.request.options, option) for run in runs}) > 1:
            notes.append(f"The runs have different values of --{option}, which may explain a change.")
    return notes


def _notes_of_time(before: Side, after: Side) -> list[str]:
    if after.first_at < before.first_at:
        return [
            "The current side was planned before the baseline: the sides may be swapped, or the clocks of the machines "
            "that planned them disagree."
        ]
    return []
