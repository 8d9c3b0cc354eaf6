"""Statistics of weighted images, for many weightings at once, and the bootstrap that draws the weights.

A plain metric is the statistic under weights of one (`value_of`); a draw of patients with replacement is a weighting
too, so that images are ranked once and not again for every draw.

Shapes: N images, K classes, P patients, R weightings. Weights are whole numbers in float32, so that sums of them are
exact for millions of images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.table import MAP_SCORES, EvaluationTable, Target
from cxrgaze_ray.schemas import CLASSES

Floats = NDArray[np.floating]
Weights = NDArray[np.float32]
Values = NDArray[np.float64]
Statistic = Callable[[Weights], Values]
"""Function from weights (N,R) to values (R,), which are NaN where undefined."""

ECE_BINS = 15

_CELLS = 1 << 19
"""Weights processed at a time: 2 MiB, which stay in a core's cache."""

UNDEFINED_SHARE = 0.1
"""Share of draws that may leave a statistic undefined before its bounds mean nothing."""

_LEVEL = 0.95
"""Confidence of the intervals that evaluations record."""


def value_of(statistic: Statistic, images: int) -> float | None:
    """Return a statistic of the unweighted images; None where they leave it undefined."""
    value = float(statistic(np.ones((images, 1), np.float32))[0])
    return value if np.isfinite(value) else None


def statistic_of(table: EvaluationTable, target: Target, places_N: NDArray[np.intp] | slice = slice(None)) -> Statistic:
    """Return the function from weights to a target of some rows of a table; for those of classes they must be labelled.

    On a constant map the correlation is undefined; here it counts as 0. Leaving such images out, as `evaluate` does,
    would favour a model that gives up on the hard ones. So do the other figures of maps, none of which gains by it.
    """
    probabilities_NK, labels_N = table.probabilities_NK[places_N], table.labels_N[places_N]
    if target in MAP_SCORES:
        score_N = np.nan_to_num(table.scores(target)[places_N], nan=0.0)
        return lambda weights_NR: mean(score_N, weights_NR)
    if target == "accuracy":
        hits_N = probabilities_NK.argmax(axis=1) == labels_N
        return lambda weights_NR: mean(hits_N, weights_NR)
    if target == "ece":
        return lambda weights_NR: calibration_error(probabilities_NK, labels_N, weights_NR)
    if target == "auc_macro":
        return lambda weights_NR: macro_auc(probabilities_NK, labels_N, weights_NR)
    k = CLASSES.index(target.removeprefix("auc_"))
    return lambda weights_NR: auc(probabilities_NK[:, k], labels_N == k, weights_NR)


def lower_is_better(target: str) -> bool:
    """Return whether a smaller value of the target is the better one."""
    return target == "ece"


def macro_auc(probabilities_NK: Floats, labels_N: NDArray[np.integer], weights_NR: Weights) -> Values:
    """Return the mean over the classes whose AUC is defined for the images themselves.

    NaN under weights that leave one of them undefined: a mean over fewer classes would be another quantity.
    """
    present = [k for k in range(probabilities_NK.shape[1]) if 0 < np.count_nonzero(labels_N == k) < len(labels_N)]
    if not present:
        return np.full(weights_NR.shape[1], np.nan)
    total_R = sum(auc(probabilities_NK[:, k], labels_N == k, weights_NR) for k in present)
    return np.asarray(total_R / len(present), np.float64)


def auc(score_N: Floats, truth_N: NDArray[np.bool_], weights_NR: Weights) -> Values:
    """Return the weighted share of (positive, negative) pairs that the scores put in order, ties counting half.

    Exact, by ranks among the negatives, without looking at pairs. NaN where either side has no weight.
    """
    negatives, positives = np.flatnonzero(~truth_N), np.flatnonzero(truth_N)
    order = negatives[np.argsort(score_N[negatives], kind="stable")]
    # whole weights sum up exactly in float32, as far as 2^24, in half the memory of float64
    below_NR = np.zeros((len(order) + 1, weights_NR.shape[1]), np.float32)
    np.cumsum(weights_NR[order], axis=0, out=below_NR[1:])
    first, last = (np.searchsorted(score_N[order], score_N[positives], side) for side in ("left", "right"))
    positive_NR = weights_NR[positives]
    ordered_R = (positive_NR * (below_NR[first] + below_NR[last])).sum(axis=0, dtype=np.float64)
    pairs_R = 2.0 * positive_NR.sum(axis=0, dtype=np.float64) * below_NR[-1]
    return _ratio(ordered_R, pairs_R)


def micro_auc(probabilities_NK: Floats, labels_N: NDArray[np.integer], weights_NR: Weights) -> Values:
    """Return the AUC over all (image, class) pairs."""
    classes = probabilities_NK.shape[1]
    truth_NK = np.eye(classes, dtype=bool)[labels_N]
    return auc(probabilities_NK.ravel(), truth_NK.ravel(), np.repeat(weights_NR, classes, axis=0))


def log_loss(probabilities_NK: Floats, labels_N: NDArray[np.integer], weights_NR: Weights) -> Values:
    """Return the mean negative logarithm of the true class's probability; one of 0 counts as float32's smallest."""
    least = np.finfo(np.float32).tiny
    true_N = np.maximum(probabilities_NK[np.arange(len(labels_N)), labels_N].astype(np.float64), least)
    return mean(-np.log(true_N), weights_NR)


def brier_score(probabilities_NK: Floats, labels_N: NDArray[np.integer], weights_NR: Weights) -> Values:
    """Return the mean over images of the squared distance of probabilities from the truth, summed over classes."""
    apart_NK = probabilities_NK.astype(np.float64) - np.eye(probabilities_NK.shape[1])[labels_N]
    return mean((apart_NK**2).sum(axis=1), weights_NR)


def calibration_error(probabilities_NK: Floats, labels_N: NDArray[np.integer], weights_NR: Weights) -> Values:
    """Return the expected calibration error of the arg-max class, in [0,1].

    Mean over images of |accuracy - confidence| of their bin; bins of equal width (Guo et al., ICML 2017).
    """
    return _ratio(np.abs(_gaps(probabilities_NK, labels_N) @ weights_NR).sum(axis=0), _total(weights_NR))


def chance_error(probabilities_NK: Floats, labels_N: NDArray[np.integer], patient_N: NDArray[np.int64]) -> float:
    """Return the calibration error that a perfectly calibrated model is expected to show on these images.

    In each bin the sum of gaps is then a sum of independent patients around zero, whose mean absolute value is
    sqrt(2/pi) of its standard deviation.
    """
    if not len(labels_N):
        return float("nan")
    gap_BP = np.zeros((ECE_BINS, int(patient_N.max()) + 1))
    np.add.at(gap_BP.T, patient_N, _gaps(probabilities_NK, labels_N).T)
    return float(np.sqrt(2 / np.pi) * np.sqrt((gap_BP**2).sum(axis=1)).sum() / len(labels_N))


def without_chance(error_R: Values, chance: float) -> Values:
    """Return the draws' calibration errors without chance: its square is subtracted twice from theirs.

    A calibration error is a mean of absolute values, so noise only ever adds to it: once in the images, and as much
    again in a draw of them. Squares of both add up. Where the noise is the larger part, two models look alike however
    their true errors differ; bounds of plain errors would then be far too confident that a rise is small.
    """
    return np.sqrt(np.maximum(error_R**2 - 2 * chance**2, 0))


def _gaps(probabilities_NK: Floats, labels_N: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return accuracy minus confidence of each image, in the row of its bin: (bins, N)."""
    confidence_N = probabilities_NK.max(axis=1).astype(np.float64)
    bin_N = np.minimum((confidence_N * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gap_BN = np.zeros((ECE_BINS, len(labels_N)))
    gap_BN[bin_N, np.arange(len(labels_N))] = (probabilities_NK.argmax(axis=1) == labels_N) - confidence_N
    return gap_BN


def mean(value_N: Floats | NDArray[np.bool_], weights_NR: Weights) -> Values:
    """Return the weighted mean; NaN without weight."""
    return _ratio(value_N.astype(np.float64) @ weights_NR.astype(np.float64), _total(weights_NR))


def _total(weights_NR: Weights) -> Values:
    return np.asarray(weights_NR.sum(axis=0, dtype=np.float64))


def _ratio(part_R: Values, whole_R: Values) -> Values:
    nothing_R: Values = np.full(len(whole_R), np.nan)
    return np.divide(part_R, whole_R, out=nothing_R, where=whole_R > 0)


@dataclass(frozen=True)
class Interval:
    """A value with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Draws:
    """R draws of P patients with replacement, and the patient of each of N images.

    Attributes
    ----------
    times_PR
        float32: how often a draw holds a patient. All images of a patient are drawn as often, for either model and
        for every criterion, which keeps the two models paired and a patient's images together.
    patient_N
        int64, row of `times_PR` for each image.
    """

    times_PR: NDArray[np.float32]
    patient_N: NDArray[np.int64]

    def take(self, mask_N: NDArray[np.bool_]) -> Draws:
        """Return the same draws for some of the images."""
        return Draws(self.times_PR, self.patient_N[mask_N])

    @property
    def patients(self) -> int:
        """Number of patients that the images are from."""
        return len(np.unique(self.patient_N))

    def apply(self, statistic: Statistic) -> Values:
        """Return a statistic of the images under each draw, (R,)."""
        rounds, step = self.times_PR.shape[1], max(16, _CELLS // max(1, len(self.patient_N)))
        values = [statistic(self._weights(slice(start, start + step))) for start in range(0, rounds, step)]
        return np.concatenate(values)

    def _weights(self, draws: slice) -> Weights:
        weights_NR: Weights = self.times_PR[:, draws][self.patient_N]
        return weights_NR


def draw_patients(patients: Sequence[str], rounds: int, seed: int) -> Draws:
    """Draw patients `rounds` times; the same patients and seed give the same draws."""
    names, patient_N = np.unique(np.array(patients, dtype=str), return_inverse=True)
    rng, count = np.random.default_rng(seed), len(names)
    times_RP = np.zeros((rounds, count), np.float32)
    # one call of the generator per round: recorded intervals and gate reports depend on exactly these draws
    for times_P in times_RP if count else ():
        times_P[:] = np.bincount(rng.integers(0, count, count), minlength=count)
    return Draws(np.ascontiguousarray(times_RP.T), patient_N.astype(np.int64))


def bounds(draws_R: Values, alpha: float) -> tuple[float, float] | None:
    """Return one-sided bounds of a difference, each with confidence 1 - alpha; None if too many draws are undefined.

    They are plain quantiles of the draws. Differences of AUC, accuracy and CC have no bias to speak of, and in
    simulations neither the basic nor the bias-corrected interval was closer to its confidence. Calibration error is
    biased, and corrected for that draw by draw: see `without_chance`.
    """
    defined_R = draws_R[np.isfinite(draws_R)]
    if len(defined_R) < (1 - UNDEFINED_SHARE) * len(draws_R):
        return None
    low, high = np.quantile(defined_R, [alpha, 1 - alpha])
    return float(low), float(high)


def interval(value: float | None, draws_R: Values) -> Interval | None:
    """Return the two-sided 95% percentile interval of a value; None where the images themselves leave it undefined.

    Unlike `bounds`, it leaves out undefined draws however many there are, and is a point if all are undefined: it
    describes, and decides nothing.
    """
    if value is None:
        return None
    defined_R, tail = draws_R[np.isfinite(draws_R)], (1 - _LEVEL) / 2
    low, high = np.quantile(defined_R, [tail, 1 - tail]) if len(defined_R) else (value, value)
    return Interval(value, float(low), float(high))
