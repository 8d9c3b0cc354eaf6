"""Two systems on the same images: is their difference more than chance? One test a figure, or why there is none.

Maps are compared by the paired two-sided t-test over images, as Qiu et al. (Med Phys 2025) do; accuracy by McNemar's
exact test; AUC by a paired bootstrap clustered by patient. No correction is made for the number of tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_rel

from cxrgaze_ray.evaluation.gate.compare import Pair, drawn, values
from cxrgaze_ray.evaluation.statistics import Values, bounds
from cxrgaze_ray.evaluation.table import MAP_SCORES, EvaluationTable, Target
from cxrgaze_ray.schemas import CLASSES

AUC_TARGETS: tuple[Target, ...] = ("auc_macro", "auc_normal", "auc_heart_failure", "auc_pneumonia")

LEAST_PATIENTS = 10
"""Patients below which no test is made: neither a t-test's nor a bootstrap's confidence means anything."""

_LEVEL = 0.95


@dataclass(frozen=True)
class PairedTest:
    """The comparison of one figure.

    Attributes
    ----------
    figure
        A target, accuracy, or one of `table.MAP_SCORES`.
    ours, other
        Each system's figure on the images that both have it for; None where undefined.
    low, high
        Two-sided 95% interval of ours minus other; None for McNemar's test, which has none.
    p
        Two-sided p-value; None if there is no test.
    why
        Why there is no test, for people; empty if there is one.
    """

    figure: str
    test: Literal["t", "mcnemar", "bootstrap"]
    images: int
    patients: int
    ours: float | None = None
    other: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    why: str = ""

    @property
    def difference(self) -> float | None:
        """Ours minus other."""
        return None if self.ours is None or self.other is None else self.ours - self.other


def paired_tests(
    ours: EvaluationTable, other: EvaluationTable, *, rounds: int = 2000, seed: int = 0
) -> dict[str, PairedTest]:
    """Compare two systems by every figure, by its name: AUCs, accuracy, and `MAP_SCORES`.

    A figure that one of them does not predict is there too, and says so.

    Raises
    ------
    ValueError
        If the tables do not cover the same images in the same order: see `gate.compare.Pair.of`.
    """
    pair = Pair.of(other, ours, rounds, seed)
    known = pair.labelled()
    tests = [
        *(_auc(known, target) for target in AUC_TARGETS),
        _accuracy(known),
        *(_map_score(pair, name) for name in MAP_SCORES),
    ]
    return {test.figure: test for test in tests}


def _auc(known: Pair, target: Target) -> PairedTest:
    """Compare AUCs by drawing patients; p is the share of draws on the other side of no difference, twice."""
    if why := _unfit(known, "classes", "have a label") or _one_sided(known, target):
        return _untested(known, target, "bootstrap", why)
    (other, ours), (other_R, ours_R) = values(known, target), drawn(known, target)
    test = PairedTest(target, "bootstrap", len(known), known.patients, ours, other)
    if (found := bounds(ours_R - other_R, (1 - _LEVEL) / 2)) is None:
        return replace(test, why="a class has too few patients")
    if np.array_equal(ours_R, other_R, equal_nan=True):
        return replace(test, why="the answers are ranked alike")
    return replace(test, low=found[0], high=found[1], p=_share_beyond(ours_R - other_R))


def _share_beyond(draws_R: Values) -> float:
    """Return the two-sided p-value of no difference: never 0, which so many draws cannot show (Davison & Hinkley)."""
    defined_R = draws_R[np.isfinite(draws_R)]
    beyond = min(np.count_nonzero(defined_R <= 0), np.count_nonzero(defined_R >= 0))
    return float(min(1.0, 2 * (beyond + 1) / (len(defined_R) + 1)))


def _one_sided(known: Pair, target: Target) -> str:
    """Say what leaves an AUC undefined; a macro AUC is the mean of those that are defined."""
    labels_N = known.labels()
    if target == "auc_macro":
        return "the images are of one class only" if len(np.unique(labels_N)) < 2 else ""
    name = target.removeprefix("auc_")
    positive = int(np.count_nonzero(labels_N == CLASSES.index(name)))
    shown = name.replace("_", " ")
    return f"no image is of {shown}" if not positive else f"every image is of {shown}" if positive == len(known) else ""


def _accuracy(known: Pair) -> PairedTest:
    """Compare accuracy by McNemar's exact test: of the images that one of the two gets right, who gets how many?"""
    if why := _unfit(known, "classes", "have a label"):
        return _untested(known, "accuracy", "mcnemar", why)
    ours_N, other_N = (_hits(known, table) for table in (known.candidate, known.champion))
    alone, others = int(np.count_nonzero(ours_N & ~other_N)), int(np.count_nonzero(other_N & ~ours_N))
    apart = alone + others
    return PairedTest(
        "accuracy", "mcnemar", len(known), known.patients, float(ours_N.mean()), float(other_N.mean()),
        p=float(binomtest(alone, apart).pvalue) if apart else None,
        why="" if apart else "both are right on the same images",
    )  # fmt: skip


def _hits(known: Pair, table: EvaluationTable) -> NDArray[np.bool_]:
    hits_N: NDArray[np.bool_] = table.probabilities_NK[known.places_N].argmax(axis=1) == known.labels()
    return hits_N


def _map_score(pair: Pair, name: str) -> PairedTest:
    """Compare one figure of maps by the paired t-test, on the images where both systems have it."""
    seen = pair.seen()
    ours_N, other_N = (table.scores(name)[seen.places_N] for table in (seen.candidate, seen.champion))
    both_N = ~(np.isnan(ours_N) | np.isnan(other_N))
    both, ours_N, other_N = seen.take(both_N), ours_N[both_N], other_N[both_N]
    if why := _unfit(both, "saliency", "have this figure"):
        return _untested(both, name, "t", why)
    ours, other = float(ours_N.mean()), float(other_N.mean())
    if np.ptp(ours_N - other_N) <= 1e-12 * (1 + abs(ours - other)):
        why = "both give the same figures" if np.array_equal(ours_N, other_N) else "the difference never varies"
        return PairedTest(name, "t", len(both), both.patients, ours, other, why=why)
    found = ttest_rel(ours_N, other_N)
    low, high = found.confidence_interval(_LEVEL)
    return PairedTest(name, "t", len(both), both.patients, ours, other, float(low), float(high), float(found.pvalue))


def _unfit(pair: Pair, answer: Literal["classes", "saliency"], have: str) -> str:
    """Say why no test is possible, or nothing."""
    if not pair.predict(answer):
        return f"not both predict {answer}"
    if pair.patients < LEAST_PATIENTS:
        return f"{pair.patients} patients {have}; {LEAST_PATIENTS} are needed"
    return ""


def _untested(pair: Pair, figure: str, test: Literal["t", "mcnemar", "bootstrap"], why: str) -> PairedTest:
    return PairedTest(figure, test, len(pair), pair.patients, why=why)
