"""How good the answers are, where labels or gaze have arrived: both sides, overall and by subgroup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import rankdata

from cxrgaze_ray.answers import FACETS, Answers
from cxrgaze_ray.drift import Drop
from cxrgaze_ray.evaluation import answer_run
from cxrgaze_ray.gaze.egd import EgdTables
from cxrgaze_ray.metrics import expected_calibration_error
from cxrgaze_ray.monitoring.features import Comparison, absent
from cxrgaze_ray.monitoring.report import Finding
from cxrgaze_ray.monitoring.settings import MonitorSettings, Thresholds
from cxrgaze_ray.runs import Run
from cxrgaze_ray.schemas import CLASSES

Name = Literal["auc_macro", "ece", "cc"]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Figure:
    """A figure of quality: its name for people, which way it goes, and the images that it can be computed of."""

    title: str
    sign: int
    """1 if less is worse, -1 if more is."""

    of: Callable[[Answers, Index], float | None]
    known: Callable[[Answers], NDArray[np.bool_]]
    grows_when_few: bool = False
    """Chance alone raises it where images are few: it is compared at equal numbers of patients."""


def macro_auc(answers: Answers, index: Index) -> float | None:
    """Return the mean one-vs-rest AUC over classes that both occur and are absent; None if there is none.

    By ranks, where `metrics.diagnosis_metrics` sorts: a bootstrap asks hundreds of times.
    """
    labels, found = answers.labels_N[index], []
    for k in range(len(CLASSES)):
        truth = labels == k
        positive, negative = int(truth.sum()), int((~truth).sum())
        if positive and negative:
            ranks = rankdata(answers.probabilities_NK[index, k])[truth].sum()
            found.append((ranks - positive * (positive + 1) / 2) / (positive * negative))
    return float(np.mean(found)) if found else None


def _ece(answers: Answers, index: Index) -> float | None:
    if not len(index):
        return None
    return expected_calibration_error(answers.probabilities_NK[index], answers.labels_N[index])


def _cc(answers: Answers, index: Index) -> float | None:
    return float(answers.cc_N[index].mean()) if len(index) else None


FIGURES: dict[Name, Figure] = {
    "auc_macro": Figure("AUC macro", 1, macro_auc, lambda answers: answers.labels_N >= 0),
    "ece": Figure("Calibration error", -1, _ece, lambda answers: answers.labels_N >= 0, grows_when_few=True),
    "cc": Figure("Saliency CC", 1, _cc, lambda answers: ~np.isnan(answers.cc_N)),
}


def read_answers(runs: Sequence[Run], truth: EgdTables) -> Answers:
    """Put a side's rows beside what is known of them; of an image in several runs, the newest row counts."""
    newest = sorted(runs, key=lambda run: run.spec.created_at, reverse=True)
    tables, seen = [], set[str]()
    for run in newest:
        answers = answer_run(run, truth, known_only=True)
        new = np.array([image not in seen for image in answers.image_ids], np.bool_)
        seen.update(answers.image_ids)
        tables.append(answers.take(new).to_table())
    return Answers.from_table(pa.concat_tables(tables))


def compare_performance(
    baseline: Answers, current: Answers, settings: MonitorSettings
) -> Iterator[Comparison | Finding]:
    """Yield how much worse each figure is, overall and in each subgroup that both sides have."""
    for name in FIGURES:
        yield _overall(name, baseline, current, settings)
    for facet in FACETS:
        values = {value for value in current.facets[facet] if value is not None} & {*baseline.facets[facet]}
        for value in sorted(values):
            before, after = (_part(side, facet, value) for side in (baseline, current))
            for name in FIGURES:
                found = _compare(name, before, after, settings, f"{facet}={value}")
                if found is not None:
                    yield found


def _part(side: Answers, facet: str, value: str) -> Answers:
    return side.take(np.array([one == value for one in side.facets[facet]], np.bool_))


def absent_performance(settings: MonitorSettings, why: str) -> Iterator[Finding]:
    """Yield what stands in the report where there are no labels."""
    for name in FIGURES:
        yield absent("performance", name, _threshold(name, settings.thresholds), why)


def _overall(name: Name, baseline: Answers, current: Answers, settings: MonitorSettings) -> Comparison | Finding:
    found = _compare(name, baseline, current, settings, None)
    if found is not None:
        return found
    why = f"{FIGURES[name].title}: a side lacks the {'gaze' if name == 'cc' else 'labels'} for it."
    return absent("performance", name, _threshold(name, settings.thresholds), why)


def _threshold(name: Name, thresholds: Thresholds, subgroup: str | None = None) -> float:
    own = {"auc_macro": thresholds.auc, "ece": thresholds.ece, "cc": thresholds.cc}[name]
    return own if subgroup is None else max(own, thresholds.subgroup)


def _compare(
    name: Name, baseline: Answers, current: Answers, settings: MonitorSettings, subgroup: str | None
) -> Comparison | None:
    """Compare a figure by its bootstrap error on either side; None where a side has none."""
    figure = FIGURES[name]
    sides = [side.take(figure.known(side)) for side in (baseline, current)]
    values = [value for side in sides if (value := figure.of(side, np.arange(len(side)))) is not None]
    if len(values) < len(sides):
        return None
    patients = [len(set(side.patients)) for side in sides]
    if figure.grows_when_few:
        values = [_of_some(side, figure, min(patients), settings) for side in sides]
    errors = [_error(side, figure, settings) for side in sides]
    return Comparison(
        family="performance",
        feature=name,
        found=Drop(values[0], values[1], figure.sign, float(np.hypot(errors[0], errors[1]))),
        threshold=_threshold(name, settings.thresholds, subgroup),
        patients=min(patients),
        least=settings.subgroup_patients if subgroup else settings.least_patients,
        detail=f"{figure.title} {values[0]:.3f} and now {values[1]:.3f}, of {patients[0]} and {patients[1]} patients.",
        subgroup=subgroup,
    )


def _error(side: Answers, figure: Figure, settings: MonitorSettings) -> float:
    """Return the standard error of a figure, by drawing patients with replacement."""
    members, rng = _members(side), np.random.default_rng(settings.seed)
    draws = [
        figure.of(side, np.concatenate([members[one] for one in rng.integers(0, len(members), len(members))]))
        for _ in range(settings.rounds)
    ]
    defined = [draw for draw in draws if draw is not None]
    return float(np.std(defined, ddof=1)) if len(defined) > 1 else 0.0


def _of_some(side: Answers, figure: Figure, patients: int, settings: MonitorSettings) -> float:
    """Return a figure's mean over draws of some of the patients: what it would be, were there no more of them."""
    members, rng = _members(side), np.random.default_rng(settings.seed)
    rounds = settings.rounds if patients < len(members) else 1
    draws = [
        figure.of(side, np.concatenate([members[one] for one in rng.permutation(len(members))[:patients]]))
        for _ in range(rounds)
    ]
    return float(np.mean([draw for draw in draws if draw is not None]))


def _members(side: Answers) -> list[Index]:
    """Return the places of each patient's images."""
    _, group_N = np.unique(np.array(side.patients, dtype=str), return_inverse=True)
    return np.split(np.argsort(group_N, kind="stable"), np.cumsum(np.bincount(group_N))[:-1])
