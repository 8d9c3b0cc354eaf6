"""Two models on the same images: how much better one is, and how certain that is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.statistics import (
    Draws,
    Statistic,
    Values,
    bounds,
    chance_error,
    draw_patients,
    lower_is_better,
    statistic_of,
    value_of,
    without_chance,
)
from cxrgaze_ray.evaluation.table import UNKNOWN, EvaluationTable, Facet, Target, answer_of
from cxrgaze_ray.models.settings import Answer
from cxrgaze_ray.schemas import NOT_STATED


@dataclass(frozen=True)
class Pair:
    """Tables of champion and candidate on the same images, and the draws that every criterion shares.

    Attributes
    ----------
    places_N
        Rows of the tables that belong to the pair: a part of a pair shares the whole's tables and copies none.
    """

    champion: EvaluationTable
    candidate: EvaluationTable
    draws: Draws
    places_N: NDArray[np.intp]

    @classmethod
    def of(cls, champion: EvaluationTable, candidate: EvaluationTable, rounds: int, seed: int) -> Pair:
        """Pair the tables' rows with known label or gaze, and draw the patients of those.

        Raises
        ------
        ValueError
            If they do not cover the same images in the same order, with the same patients, labels and gaze, or a
            probability is not a number.
        """
        _check_same(champion, candidate)
        places_N = np.flatnonzero((champion.labels_N != UNKNOWN) | champion.seen_N)
        patients = [champion.patients[place] for place in places_N]
        return cls(champion, candidate, draw_patients(patients, rounds, seed), places_N)

    def __len__(self) -> int:
        return len(self.places_N)

    @property
    def patients(self) -> int:
        """Number of patients that the images are from."""
        return self.draws.patients

    def labels(self) -> NDArray[np.int64]:
        """Return the diagnosis of each image, (N,)."""
        return self.champion.labels_N[self.places_N]

    def labelled(self) -> Pair:
        """Return the images whose diagnosis is known."""
        return self.take(self.labels() != UNKNOWN)

    def seen(self) -> Pair:
        """Return the images that somebody looked at."""
        return self.take(self.champion.seen_N[self.places_N])

    def known(self, target: Target) -> Pair:
        """Return the images that a target is about: labelled ones, or those whose readers' maps or looks are known."""
        if answer_of(target) == "classes":
            return self.labelled()
        seen = self.seen()
        if target not in ("nss", "sauc"):
            return seen
        scores = [table.scores(target)[seen.places_N] for table in (self.champion, self.candidate)]
        return seen.take(np.asarray(~np.isnan(scores).all(axis=0)))

    def predict(self, answer: Answer) -> bool:
        """Say whether both models do."""
        return all(answer in table.predicts for table in (self.champion, self.candidate))

    def values(self, facet: Facet) -> NDArray[np.str_]:
        """Return a facet's value for each image."""
        values = self.champion.facets.get(facet, (None,) * len(self.champion))
        return np.array([values[place] or NOT_STATED for place in self.places_N], dtype=str)

    def take(self, mask_N: NDArray[np.bool_]) -> Pair:
        """Return the images where a mask is true, under the same draws."""
        return replace(self, draws=self.draws.take(mask_N), places_N=self.places_N[mask_N])


def _check_same(champion: EvaluationTable, candidate: EvaluationTable) -> None:
    if champion.image_ids != candidate.image_ids:
        raise ValueError("champion and candidate did not answer the same images in the same order")
    same = champion.patients == candidate.patients and all(
        np.array_equal(getattr(champion, name), getattr(candidate, name)) for name in ("labels_N", "seen_N")
    )
    if not same:
        raise ValueError("champion and candidate differ in patients, labels or gaze of the same images")
    told = [table.probabilities_NK for table in (champion, candidate) if "classes" in table.predicts]
    if not all(np.isfinite(probabilities_NK).all() for probabilities_NK in told):
        raise ValueError("a probability is not a number")


@dataclass(frozen=True)
class PairedDifference:
    """Values of a target for both models.

    Attributes
    ----------
    champion, candidate
        Value of each model; None where the images leave the target undefined.
    low, high
        One-sided bounds of the true difference, candidate minus champion; None if too many draws are undefined.
    """

    target: Target
    champion: float | None
    candidate: float | None
    low: float | None
    high: float | None
    patients: int
    images: int

    @property
    def difference(self) -> float | None:
        """Candidate minus champion."""
        return None if self.champion is None or self.candidate is None else self.candidate - self.champion

    @property
    def gain(self) -> float:
        """Amount by which the candidate is better, whatever the target's direction; NaN where undefined."""
        return self._gain(self.difference)

    @property
    def least_gain(self) -> float:
        """Lower bound of the true gain."""
        return self._gain(self.high if lower_is_better(self.target) else self.low)

    @property
    def most_gain(self) -> float:
        """Upper bound of the true gain."""
        return self._gain(self.low if lower_is_better(self.target) else self.high)

    def _gain(self, difference: float | None) -> float:
        return float("nan") if difference is None else -difference if lower_is_better(self.target) else difference


def compare(pair: Pair, target: Target, alpha: float) -> PairedDifference:
    """Compare both models on all images of a pair, with bounds at alpha.

    Chance adds to both calibration errors and makes them alike. So plain draws are cautious in showing that one rose,
    and overconfident in showing that it did not rise much: the upper bound comes from draws freed of chance (see
    `statistics.without_chance`). The difference is the plain one, and need not lie between the bounds.
    """
    champion, candidate = values(pair, target)
    if champion is None or candidate is None:
        return PairedDifference(target, None, None, None, None, pair.patients, len(pair))
    old_R, new_R = drawn(pair, target)
    low, high = bounds(new_R - old_R, alpha) or (None, None)
    if target == "ece" and low is not None:
        freed_R = _freed(pair, pair.candidate, new_R) - _freed(pair, pair.champion, old_R)
        high = float(np.quantile(freed_R[np.isfinite(freed_R)], 1 - alpha))
        low = min(low, high)
    return PairedDifference(target, champion, candidate, low, high, pair.patients, len(pair))


def values(pair: Pair, target: Target) -> tuple[float | None, float | None]:
    """Return the champion's and the candidate's value of a target; None where the images leave it undefined."""
    old, new = _statistics(pair, target)
    return value_of(old, len(pair)), value_of(new, len(pair))


def drawn(pair: Pair, target: Target) -> tuple[Values, Values]:
    """Return the champion's and the candidate's value under each draw of the patients; NaN where undefined."""
    old, new = _statistics(pair, target)
    return pair.draws.apply(old), pair.draws.apply(new)


def _statistics(pair: Pair, target: Target) -> tuple[Statistic, Statistic]:
    return statistic_of(pair.champion, target, pair.places_N), statistic_of(pair.candidate, target, pair.places_N)


def _freed(pair: Pair, table: EvaluationTable, error_R: Values) -> Values:
    """Return the draws' calibration errors without the part that chance adds."""
    places_N = pair.places_N
    chance = chance_error(table.probabilities_NK[places_N], table.labels_N[places_N], pair.draws.patient_N)
    return without_chance(error_R, chance)
