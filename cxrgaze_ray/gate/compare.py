"""Two models on the same images: by how much one is better, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.answers import UNKNOWN, Answers
from cxrgaze_ray.gate.resample import Draws, bounds, draw_patients
from cxrgaze_ray.gate.settings import Target
from cxrgaze_ray.gate.statistics import lower_is_better, statistic_of


@dataclass(frozen=True)
class Pair:
    """Answers of champion and candidate to the same images, and the draws that every criterion shares."""

    champion: Answers
    candidate: Answers
    draws: Draws

    @classmethod
    def of(cls, champion: Answers, candidate: Answers, rounds: int, seed: int) -> Pair:
        """Put answers side by side where something is known of the image, and draw their patients.

        Raises
        ------
        ValueError
            If they are not of the same images in the same order, with the same patients, labels and gaze, or a
            probability is no number.
        """
        _check_same(champion, candidate)
        known = (champion.labels_N != UNKNOWN) | champion.seen_N
        champion, candidate = champion.take(known), candidate.take(known)
        return cls(champion, candidate, draw_patients(champion.patients, rounds, seed))

    def __len__(self) -> int:
        return len(self.champion)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Pair:
        """Return the pair at some images, under the same draws."""
        places = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.intp)
        return Pair(self.champion.take(places), self.candidate.take(places), self.draws.take(places))


def _check_same(champion: Answers, candidate: Answers) -> None:
    if champion.image_ids != candidate.image_ids:
        raise ValueError("champion and candidate did not answer the same images in the same order")
    same = champion.patients == candidate.patients and all(
        np.array_equal(getattr(champion, name), getattr(candidate, name)) for name in ("labels_N", "seen_N")
    )
    if not same:
        raise ValueError("champion and candidate differ in patients, labels or gaze of the same images")
    if not all(np.isfinite(answers.probabilities_NK).all() for answers in (champion, candidate)):
        raise ValueError("a probability is not a number")


@dataclass(frozen=True)
class Comparison:
    """A target of both models.

    Attributes
    ----------
    champion, candidate
        None where the images leave the target undefined.
    low, high
        One-sided bounds of the true difference, candidate less champion; None if too many draws are undefined.
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
        """Candidate less champion."""
        return None if self.champion is None or self.candidate is None else self.candidate - self.champion

    @property
    def gain(self) -> float:
        """By how much the candidate is better, whatever the target's direction; NaN where undefined."""
        return self._gain(self.difference)

    @property
    def least_gain(self) -> float:
        """Bound that the true gain is above."""
        return self._gain(self.high if lower_is_better(self.target) else self.low)

    @property
    def most_gain(self) -> float:
        """Bound that the true gain is below."""
        return self._gain(self.low if lower_is_better(self.target) else self.high)

    def _gain(self, difference: float | None) -> float:
        return float("nan") if difference is None else -difference if lower_is_better(self.target) else difference


def compare(pair: Pair, target: Target, alpha: float) -> Comparison:
    """Compare both models on all images of a pair, with bounds at alpha."""
    old, new = statistic_of(pair.champion, target), statistic_of(pair.candidate, target)
    once_N1 = np.ones((len(pair), 1), np.float32)
    champion, candidate = float(old(once_N1)[0]), float(new(once_N1)[0])
    patients, images = pair.draws.patients, len(pair)
    if not np.isfinite(candidate - champion):
        return Comparison(target, None, None, None, None, patients, images)
    draws_R = pair.draws.apply(lambda weights_NR: new(weights_NR) - old(weights_NR))
    low, high = bounds(candidate - champion, draws_R, alpha) or (None, None)
    return Comparison(target, champion, candidate, low, high, patients, images)
