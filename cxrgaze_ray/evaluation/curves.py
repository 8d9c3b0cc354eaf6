"""Curves of a diagnosis, as a bundle carries them: ROC and precision-recall, reliability, and histograms by truth.

All stand on fixed grids, with 95% bootstrap bands clustered by patient, so that a picture of a million images is as
small as one of a hundred, and holds nothing of a single one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.statistics import ECE_BINS, Draws, Floats, Statistic, Values, Weights
from cxrgaze_ray.schemas import CLASSES

GRID = tuple(np.linspace(0, 1, 51).round(2).tolist())
"""False positive rates of a ROC curve, and recalls of a precision-recall curve."""

HISTOGRAM_BINS = 20

_TAIL, _DIGITS = 0.025, 4

Truth = NDArray[np.bool_]
Numbers = tuple[float | None, ...]


@dataclass(frozen=True)
class Band:
    """A curve on a grid with its 95% bounds; None where undefined."""

    value: Numbers
    low: Numbers
    high: Numbers


@dataclass(frozen=True)
class ClassCurves:
    """One class against the rest.

    Attributes
    ----------
    roc, precision_recall
        True positive rates, and precisions, over `GRID`; None where the images hold only one side.
    of_it, of_others
        Images of the class, and of the others, by its probability: `HISTOGRAM_BINS` of equal width from 0 to 1.
    """

    roc: Band | None
    precision_recall: Band | None
    of_it: tuple[int, ...]
    of_others: tuple[int, ...]


@dataclass(frozen=True)
class Curves:
    """All that is drawn of a diagnosis.

    Attributes
    ----------
    classes
        By the name of the class.
    reliability
        Share of right answers in each of `statistics.ECE_BINS` bins of the arg-max class's probability.
    confidence, counts
        Mean probability of the images in a bin, None without any; and their number.
    """

    classes: dict[str, ClassCurves]
    reliability: Band
    confidence: Numbers
    counts: tuple[int, ...]


def roc_curve(scores_N: Floats, truth_N: Truth) -> tuple[Values, Values]:
    """Return false and true positive rates from (0,0) to (1,1), one point for each distinct score; NaN if one-sided."""
    ends, true_N1, false_N1 = _counted(scores_N, truth_N, np.ones((len(truth_N), 1), np.float32))
    with np.errstate(invalid="ignore"):
        rates = (np.append(0.0, counts[ends, 0] / counts[-1, 0]) for counts in (false_N1, true_N1))
        return next(rates), next(rates)


def curves_of(probabilities_NK: Floats, labels_N: NDArray[np.integer], draws: Draws) -> Curves:
    """Compute the curves of labelled images, their bands from draws of their patients."""
    confidence_N = probabilities_NK.max(axis=1).astype(np.float64)
    bin_N = np.minimum((confidence_N * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    counts = np.bincount(bin_N, minlength=ECE_BINS)
    sums = np.bincount(bin_N, weights=confidence_N, minlength=ECE_BINS)
    hits_N = probabilities_NK.argmax(axis=1) == labels_N
    return Curves(
        classes={name: _class_curves(probabilities_NK[:, k], labels_N == k, draws) for k, name in enumerate(CLASSES)},
        reliability=_band(lambda weights_NR: _shares(hits_N, bin_N, weights_NR), draws),
        confidence=tuple(_number(total / count) if count else None for total, count in zip(sums, counts, strict=True)),
        counts=tuple(counts.tolist()),
    )


def _class_curves(scores_N: Floats, truth_N: Truth, draws: Draws) -> ClassCurves:
    both = 0 < np.count_nonzero(truth_N) < len(truth_N)
    of_it, of_others = (
        tuple(np.histogram(scores_N[side], HISTOGRAM_BINS, (0, 1))[0].tolist()) for side in (truth_N, ~truth_N)
    )
    return ClassCurves(
        _band(lambda weights_NR: _rates(scores_N, truth_N, weights_NR), draws) if both else None,
        _band(lambda weights_NR: _precisions(scores_N, truth_N, weights_NR), draws) if both else None,
        of_it,
        of_others,
    )


def _band(curve: Statistic, draws: Draws) -> Band:
    """Return a curve of the images and its bounds over draws, as far as they are defined."""
    value_G = curve(np.ones((len(draws.patient_N), 1), np.float32))[0]
    drawn_RG = draws.apply(curve)
    known_G = np.isfinite(drawn_RG).any(axis=0)
    low_G, high_G = (np.full(len(value_G), np.nan) for _ in range(2))
    low_G[known_G], high_G[known_G] = np.nanquantile(drawn_RG[:, known_G], [_TAIL, 1 - _TAIL], axis=0)
    return Band(*(tuple(map(_number, side)) for side in (value_G, low_G, high_G)))


def _number(value: float) -> float | None:
    return round(float(value), _DIGITS) if np.isfinite(value) else None


def _counted(scores_N: Floats, truth_N: Truth, weights_NR: Weights) -> tuple[NDArray[np.intp], Values, Values]:
    """Return the last place of each distinct score, highest first, and the weight of both sides as far as any place."""
    order = np.argsort(-scores_N, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores_N[order]) != 0, True))
    sorted_NR, hits_N1 = weights_NR[order], truth_N[order, None]
    true, false = (np.cumsum(sorted_NR * side, axis=0, dtype=np.float64) for side in (hits_N1, ~hits_N1))
    return ends, true, false


def _rates(scores_N: Floats, truth_N: Truth, weights_NR: Weights) -> Values:
    """Return true positive rates over `GRID`, (R,G)."""
    ends, true, false = _counted(scores_N, truth_N, weights_NR)
    nothing = np.zeros((1, weights_NR.shape[1]))
    true_R, false_R = (np.concatenate([nothing, counts[ends]]) for counts in (true, false))
    with np.errstate(invalid="ignore"):
        columns = zip((false_R / false_R[-1]).T, (true_R / true_R[-1]).T, strict=True)
        return np.stack([np.interp(GRID, across, up) for across, up in columns])


def _precisions(scores_N: Floats, truth_N: Truth, weights_NR: Weights) -> Values:
    """Return the precision at the first threshold that reaches each recall of `GRID`, (R,G)."""
    ends, true, false = _counted(scores_N, truth_N, weights_NR)
    found = []
    with np.errstate(invalid="ignore"):
        for hits, misses in zip(true[ends].T, false[ends].T, strict=True):
            # the first threshold with a hit: those before it reach no recall at all
            least = np.maximum(np.array(GRID) * hits[-1], min(hits[hits > 0], default=np.nan))
            place = np.minimum(np.searchsorted(hits, least - 1e-9), len(hits) - 1)
            found.append(hits[place] / (hits[place] + misses[place]) if hits[-1] else np.full(len(GRID), np.nan))
    return np.stack(found)


def _shares(hits_N: Truth, bin_N: NDArray[np.int64], weights_NR: Weights) -> Values:
    """Return the share of right answers in each bin, (R,bins); NaN where a bin is empty."""
    member_BN = (bin_N[None] == np.arange(ECE_BINS)[:, None]).astype(np.float64)
    right_BR, all_BR = member_BN @ (weights_NR * hits_N[:, None]), member_BN @ weights_NR
    nothing_BR = np.full(all_BR.shape, np.nan)
    return np.asarray(np.divide(right_BR, all_BR, out=nothing_BR, where=all_BR > 0).T)
