"""Metrics of weighted images, for many weightings at once: `metrics` gives the same for weights of one.

Shapes: N images, K classes, R weightings. Weights are whole numbers in float32, so that sums of them are exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.answers import Answers, Target
from cxrgaze_ray.evaluation.metrics import Floats
from cxrgaze_ray.schemas import CLASSES

Weights = NDArray[np.float32]
Values = NDArray[np.float64]
Statistic = Callable[[Weights], Values]
"""From weights (N,R) to values (R,); NaN where undefined."""

ECE_BINS = 15


def statistic_of(answers: Answers, target: Target, places_N: NDArray[np.intp]) -> Statistic:
    """Return what computes a target of some of the answers under weights; for all but CC they must be labelled.

    On a constant map the correlation is undefined; here it counts 0. Leaving such images out, as `evaluate` does,
    would favour a model that gives up on the hard ones.
    """
    probabilities_NK, labels_N = answers.probabilities_NK[places_N], answers.labels_N[places_N]
    if target == "cc":
        cc_N = np.nan_to_num(answers.cc_N[places_N], nan=0.0)
        return lambda weights_NR: mean(cc_N, weights_NR)
    if target == "accuracy":
        hits_N = probabilities_NK.argmax(axis=1) == labels_N
        return lambda weights_NR: mean(hits_N, weights_NR)
    if target == "ece":
        return lambda weights_NR: calibration_error(probabilities_NK, labels_N, weights_NR)
    if target == "auc_macro":
        return lambda weights_NR: macro_auc(probabilities_NK, labels_N, weights_NR)
    k = CLASSES.index(target.removeprefix("auc_"))
    return lambda weights_NR: auc(probabilities_NK[:, k], labels_N == k, weights_NR)


def lower_is_better(target: Target) -> bool:
    """Tell whether a smaller value of the target is the better one."""
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

    Exact, by ranks among the negatives: no pair is looked at. NaN where either side has no weight.
    """
    negatives, positives = np.flatnonzero(~truth_N), np.flatnonzero(truth_N)
    order = negatives[np.argsort(score_N[negatives], kind="stable")]
    below_NR = np.zeros((len(order) + 1, weights_NR.shape[1]), np.float32)
    np.cumsum(weights_NR[order], axis=0, out=below_NR[1:])
    first, last = (np.searchsorted(score_N[order], score_N[positives], side) for side in ("left", "right"))
    positive_NR = weights_NR[positives]
    ordered_R = (positive_NR * (below_NR[first] + below_NR[last])).sum(axis=0, dtype=np.float64)
    pairs_R = 2.0 * positive_NR.sum(axis=0, dtype=np.float64) * below_NR[-1]
    return _ratio(ordered_R, pairs_R)


def calibration_error(probabilities_NK: Floats, labels_N: NDArray[np.integer], weights_NR: Weights) -> Values:
    """Return the expected calibration error of the arg-max class: see `metrics.expected_calibration_error`."""
    return _ratio(np.abs(_gaps(probabilities_NK, labels_N) @ weights_NR).sum(axis=0), _total(weights_NR))


def chance_error(probabilities_NK: Floats, labels_N: NDArray[np.integer], patient_N: NDArray[np.int64]) -> float:
    """Return the calibration error to expect of these images from a model that is perfectly calibrated.

    In each bin the sum of gaps is then a sum of independent patients around zero, whose mean absolute value is
    sqrt(2/pi) of its standard deviation.
    """
    if not len(labels_N):
        return float("nan")
    gap_BP = np.zeros((ECE_BINS, int(patient_N.max()) + 1))
    np.add.at(gap_BP.T, patient_N, _gaps(probabilities_NK, labels_N).T)
    return float(np.sqrt(2 / np.pi) * np.sqrt((gap_BP**2).sum(axis=1)).sum() / len(labels_N))


def without_chance(error_R: Values, chance: float) -> Values:
    """Return calibration errors of draws without what chance adds: its square, twice, from theirs.

    A calibration error is a mean of absolute values, so noise only ever adds to it: once in the images, and as much
    again in a draw of them. Squares of both add up. Where the noise is the larger part, two models look alike however
    their true errors differ; bounds of plain errors would then be far too sure that a rise is small.
    """
    return np.sqrt(np.maximum(error_R**2 - 2 * chance**2, 0))


def _gaps(probabilities_NK: Floats, labels_N: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return accuracy less confidence of each image, in the row of its bin: (bins, N)."""
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
