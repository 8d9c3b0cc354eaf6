"""The tables' figures: each system's measures with intervals, its tests against ours, ablations, the paper's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.paired import PairedTest, paired_tests
from cxrgaze_ray.evaluation.statistics import (
    Interval,
    draw_patients,
    interval,
    mean,
    micro_auc,
    statistic_of,
    value_of,
)
from cxrgaze_ray.evaluation.table import EvaluationTable, Target
from cxrgaze_ray.models.settings import Answer, System, predicts
from cxrgaze_ray.paper.reported import OURS, TITLES, Measure, reported
from cxrgaze_ray.paper.run import Results
from cxrgaze_ray.schemas import CLASSES

DIAGNOSIS: dict[Measure, str] = {
    "auc_normal": "AUC normal",
    "auc_heart_failure": "AUC heart failure",
    "auc_pneumonia": "AUC pneumonia",
    "auc_macro": "AUC macro",
    "auc_micro": "AUC micro",
    "accuracy": "accuracy",
}
SALIENCY: dict[Measure, str] = {"kl": "KL", "cc": "CC", "hs": "HS", "nss": "NSS", "sauc": "shuffled AUC"}
"""Measures of the two tables, and how they are printed."""

CENTRE, READERS = "centre-bias baseline", "readers' agreement"
"""Rows that saliency is seen beside; they are no systems."""

_ROUNDS, _SEED = 1000, 0
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Figure:
    """One measure of one trained model on the test split.

    Attributes
    ----------
    value
        None where undefined; `why` then says why.
    deviation
        Standard deviation over images, of measures that are means over them.
    low, high
        95% bootstrap interval clustered by patient.
    test
        Comparison with our system of the same seed; None for our own, and where there is nothing to compare.
    note
        What a reader has to know of the value, empty as a rule.
    """

    value: float | None
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""
    test: PairedTest | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A system, or something that saliency is seen beside, with figures of each seed by measure.

    Attributes
    ----------
    images
        Number of images that the figures are of.
    left_out
        Why there are no figures at all.
    seeds
        Seed of each figure; none for what is no system.
    """

    name: str
    title: str
    figures: Mapping[Measure, tuple[Figure, ...]]
    images: int = 0
    left_out: str = ""
    seeds: tuple[int, ...] = ()

    def reported(self, measure: Measure) -> str:
        """Return what the paper prints, if it does."""
        return reported(self.name, measure) if self.name in TITLES else ""


@dataclass(frozen=True)
class Comparison:
    """Whether one system is better than another by a measure, as the paper says.

    Attributes
    ----------
    differences
        First minus second, of each seed; None where one is undefined.
    tests
        Test of each seed.
    """

    first: System
    second: System
    measure: Measure
    differences: tuple[float | None, ...]
    tests: tuple[PairedTest, ...]

    @property
    def better(self) -> tuple[int, int]:
        """Number of seeds in which the first is better, and of those with a significant difference among them."""
        return self._counted(1)

    @property
    def worse(self) -> tuple[int, int]:
        """The same of those in which it is worse."""
        return self._counted(-1)

    def _counted(self, direction: int) -> tuple[int, int]:
        sign = -direction if self.measure == "kl" else direction
        pairs = zip(self.differences, self.tests, strict=True)
        tests = [test for difference, test in pairs if difference is not None and sign * difference > 0]
        return len(tests), sum(test.p is not None and test.p < SIGNIFICANT for test in tests)


def table_rows(results: Results, answer: Answer) -> list[Row]:
    """Return the rows of Table 1 (classes) or Table 2 (saliency), systems in the paper's order."""
    measures = DIAGNOSIS if answer == "classes" else SALIENCY
    shown = [system for system in TITLES if answer in predicts(system)]
    rows = [_row(results, system, tuple(measures)) for system in shown if _asked(results, system)]
    return rows if answer == "classes" else rows + _beside(results)


def _asked(results: Results, system: System) -> bool:
    return not results.settings.only or system in results.settings.only


def _row(results: Results, system: System, measures: Sequence[Measure]) -> Row:
    tested, ours = results.of(system), {one.job.seed: one.answers for one in results.of(OURS)}
    if not tested:
        return Row(system, TITLES[system], {}, left_out=results.why_not(system))
    tests = [
        {} if system == OURS or one.job.seed not in ours else _tests(ours[one.job.seed], one.answers) for one in tested
    ]
    figures = {
        measure: tuple(
            _figure(one.answers, measure, test.get(measure)) for one, test in zip(tested, tests, strict=True)
        )
        for measure in measures
    }
    answers = tested[0].answers
    known = answers.labels_N >= 0 if measures[0] in DIAGNOSIS else answers.seen_N
    return Row(system, TITLES[system], figures, int(known.sum()), seeds=tuple(one.job.seed for one in tested))


def _tests(ours: EvaluationTable, other: EvaluationTable) -> dict[str, PairedTest]:
    """Compare two systems on the images that both answered: one that reads gaze answers fewer."""
    both = set(ours.image_ids) & set(other.image_ids)
    parts = (table.take(np.array([name in both for name in table.image_ids], bool)) for table in (ours, other))
    return paired_tests(*parts)


def _beside(results: Results) -> list[Row]:
    tested = next((one for one in results.tested if "saliency" in one.answers.predicts), None)
    if tested is None:
        return []
    answers, measures = tested.answers, tuple(SALIENCY)
    several: NDArray[np.bool_] = np.asarray(np.isfinite(answers.readers_NM).any(axis=1))
    rows = {CENTRE: answers.centre()}
    found = [
        Row(name, name, {measure: (_figure(table, measure),) for measure in measures}, int(table.seen_N.sum()))
        for name, table in rows.items()
    ]
    if not several.any():
        return [*found, Row(READERS, READERS, {}, left_out="no image of the test split has two readers")]
    agreed = replace(answers, maps_NM=answers.readers_NM).take(several)
    figures = {measure: (_figure(agreed, measure),) for measure in measures}
    return [*found, Row(READERS, READERS, figures, int(several.sum()))]


def _figure(answers: EvaluationTable, measure: Measure, test: PairedTest | None = None) -> Figure:
    if measure in SALIENCY:
        return _of_images(answers, measure, test)
    known = answers.labelled()
    if not len(known):
        return Figure(None, why="no labelled image", test=test)
    statistic = (
        partial(micro_auc, known.probabilities_NK, known.labels_N)
        if measure == "auc_micro"
        else statistic_of(known, cast("Target", measure))
    )
    value = value_of(statistic, len(known))
    if value is None:
        return Figure(None, why=_one_sided(known, measure), test=test)
    found = interval(value, draw_patients(known.patients, _ROUNDS, _SEED).apply(statistic))
    classes = len(np.unique(known.labels_N))
    note = f"over {classes} of {len(CLASSES)} classes" if measure == "auc_macro" and classes < len(CLASSES) else ""
    return _with(found, None, test, note)


def _of_images(answers: EvaluationTable, measure: Measure, test: PairedTest | None) -> Figure:
    values_N = answers.scores(measure)
    undefined = int((np.isnan(values_N) & answers.seen_N).sum())
    known = answers.take(np.isfinite(values_N))
    values_N = values_N[np.isfinite(values_N)]
    if not len(known):
        return Figure(None, why="not known for any image", test=test)
    draws = draw_patients(known.patients, _ROUNDS, _SEED)
    found = interval(float(values_N.mean()), draws.apply(lambda weights_NR: mean(values_N, weights_NR)))
    return _with(found, float(values_N.std()), test, f"undefined for {undefined} images" if undefined else "")


def _with(found: Interval | None, deviation: float | None, test: PairedTest | None, note: str) -> Figure:
    assert found is not None
    return Figure(found.value, deviation, found.low, found.high, test=test, note=note)


def _one_sided(known: EvaluationTable, measure: Measure) -> str:
    name = measure.removeprefix("auc_")
    if name not in CLASSES:
        return "all images are of one class"
    count = int((known.labels_N == CLASSES.index(name)).sum())
    return "no test image of this class" if not count else "all test images are of this class"


Ablation = tuple[str, System, System, Literal["classes", "saliency"]]
ABLATIONS: tuple[Ablation, ...] = (
    ("Residual blocks with squeeze and excite in the U-Net", "res-se-unet", "unet-s", "saliency"),
    ("DenseNet features in the saliency path", "gazenet", "res-se-unet", "saliency"),
    ("The contrastive phase", "dnet201-cl", "dnet201", "classes"),
    ("Gaze features in the diagnosis", "gazenet", "dnet201-cl", "classes"),
)
"""What is added, the system with it, the one without, and what it should improve."""

ORDER: tuple[tuple[System, System, tuple[Measure, ...]], ...] = (
    ("gazenet", "dnet201-cl", ("auc_macro", "accuracy")),
    ("gazenet", "res-se-unet", ("kl", "cc", "hs")),
    ("gazenet", "mt-unet", ("auc_macro", "accuracy", "kl", "cc", "hs")),
)
"""Comparisons that the paper's claim rests on."""


def compare(results: Results, first: System, second: System, measures: Sequence[Measure]) -> list[Comparison]:
    """Compare two systems seed by seed, by each measure; nothing unless both were tested."""
    others = {one.job.seed: one.answers for one in results.of(second)}
    pairs = [(one.answers, others[one.job.seed]) for one in results.of(first) if one.job.seed in others]
    if not pairs:
        return []
    tests = [_tests(mine, other) for mine, other in pairs]  # of all measures at once: patients are drawn once a pair
    found = []
    for measure in measures:
        values = [(_figure(mine, measure).value, _figure(other, measure).value) for mine, other in pairs]
        differences = tuple(None if mine is None or other is None else mine - other for mine, other in values)
        found.append(Comparison(first, second, measure, differences, tuple(test[measure] for test in tests)))
    return found
