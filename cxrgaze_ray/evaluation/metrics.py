"""Metrics of diagnosis and saliency: NumPy in, dataclass out. Definitions as in Qiu et al. (Med Phys 2025)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.schemas import CLASSES

Floats = NDArray[np.floating]
MapScores = tuple[float | None, float | None, float | None]
"""KL, CC and HS of one image's saliency against gaze; None where undefined or not known."""


@dataclass(frozen=True)
class Interval:
    """A value with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class DiagnosisMetrics:
    """Of N labelled images.

    Attributes
    ----------
    auc
        One-vs-rest a class, on softmax; None where the labels hold only one side.
    auc_macro
        Mean of the defined class AUCs; None if none is.
    auc_micro
        Over all (image, class) pairs.
    confusion
        Rows are true classes, columns arg-max predictions.
    ece
        See `expected_calibration_error`.
    """

    images: int
    auc: dict[str, float | None]
    auc_macro: float | None
    auc_micro: float | None
    accuracy: float
    confusion: tuple[tuple[int, ...], ...]
    ece: float | None = None


@dataclass(frozen=True)
class SaliencyMetrics:
    """Means and population standard deviations over the images of N where a figure is defined; None if it is nowhere.

    Attributes
    ----------
    undefined_cc
        Images left out of CC: a map was constant.
    undefined_kl, undefined_hs
        Images left out of KL and HS: a map had no mass, so that it stands for no density; or the figure is not known.
    """

    images: int
    kl: float | None
    kl_std: float | None
    cc: float | None
    cc_std: float | None
    hs: float | None
    hs_std: float | None
    undefined_cc: int
    undefined_kl: int = 0
    undefined_hs: int = 0


@dataclass(frozen=True)
class ImageScore:
    """How one image fared: probability given to its true class, and CC with its reader's gaze; None where unknown."""

    image_id: str
    label: int | None
    p_true: float | None
    cc: float | None


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a set of images; None where nothing was known to compare with.

    Attributes
    ----------
    diagnosis, saliency
        Of the labelled images, and of those with gaze.
    intervals
        95% bootstrap intervals clustered by patient: auc_macro, accuracy, ece, cc.
    note
        What does not hold of these figures, for people.
    scores
        Of single images.
    """

    images: int
    diagnosis: DiagnosisMetrics | None
    saliency: SaliencyMetrics | None
    intervals: dict[str, Interval | None]
    note: str = ""
    scores: tuple[ImageScore, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return everything but the single images, for JSON, which has no NaN: None where a figure is not known."""
        return {name: value for name, value in asdict(self).items() if name != "scores"}

    def rows(self) -> list[list[str]]:
        """Return (metric, value, interval) rows for a table."""
        rows = [["images", str(self.images), ""]]
        if self.diagnosis:
            found = self.diagnosis
            rows += [[f"AUC {name.replace('_', ' ')}", _number(value), ""] for name, value in found.auc.items()]
            rows += [["AUC macro", _number(found.auc_macro), _span(self.intervals.get("auc_macro"))]]
            rows += [["AUC micro", _number(found.auc_micro), ""]]
            rows += [["accuracy", _number(found.accuracy), _span(self.intervals.get("accuracy"))]]
            if found.ece is not None:
                rows += [["calibration error", _number(found.ece), _span(self.intervals.get("ece"))]]
        if self.saliency:
            maps = self.saliency
            rows += [["saliency CC", _number(maps.cc), _span(self.intervals.get("cc"))]]
            rows += [["saliency HS", _number(maps.hs), ""]]
            rows += [["saliency KL", _number(maps.kl), ""]] if maps.kl is not None else []
            rows += [["maps without mass", str(maps.undefined_hs), ""]] if maps.undefined_hs else []
        return rows


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _span(interval: Interval | None) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}" if interval else ""


def diagnosis_metrics(probabilities_NK: Floats, labels_N: NDArray[np.integer]) -> DiagnosisMetrics:
    """Compute AUCs, accuracy and the confusion matrix; ValueError without images."""
    if not len(labels_N):
        raise ValueError("no labelled image to compute metrics of")
    onehot_NK = np.eye(len(CLASSES), dtype=bool)[labels_N]
    auc = {name: _auc(onehot_NK[:, k], probabilities_NK[:, k]) for k, name in enumerate(CLASSES)}
    defined = [value for value in auc.values() if value is not None]
    predicted_N = probabilities_NK.argmax(axis=1)
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(confusion, (labels_N, predicted_N), 1)
    return DiagnosisMetrics(
        images=len(labels_N),
        auc=auc,
        auc_macro=float(np.mean(defined)) if defined else None,
        auc_micro=_auc(onehot_NK.ravel(), probabilities_NK.ravel()),
        accuracy=float((predicted_N == labels_N).mean()),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        ece=expected_calibration_error(probabilities_NK, labels_N),
    )


def _auc(truth_N: NDArray[np.bool_], score_N: Floats) -> float | None:
    if truth_N.all() or not truth_N.any():
        return None
    from sklearn.metrics import roc_auc_score  # takes a second, and many need it for nothing

    return float(roc_auc_score(truth_N, score_N))


def expected_calibration_error(probabilities_NK: Floats, labels_N: NDArray[np.integer], bins: int = 15) -> float:
    """Return the expected calibration error of the arg-max class, in [0,1].

    Mean over images of |accuracy - confidence| of their bin; bins of equal width (Guo et al., ICML 2017).
    """
    confidence_N = probabilities_NK.max(axis=1).astype(np.float64)
    gap_N = (probabilities_NK.argmax(axis=1) == labels_N) - confidence_N
    bin_N = np.minimum((confidence_N * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(bin_N, gap_N, minlength=bins)).sum() / len(labels_N))


def kl_divergence(gaze_HW: Floats, saliency_HW: Floats) -> float | None:
    """Return sum q (ln q - ln p), q the gaze and p the saliency, each first brought to sum 1; None without mass."""
    q, p = _normalised(gaze_HW), _normalised(saliency_HW)
    if q is None or p is None:
        return None
    p, seen = np.maximum(p, np.finfo(np.float64).tiny), q > 0
    return float(np.sum(q[seen] * (np.log(q[seen]) - np.log(p[seen]))))


def correlation(gaze_HW: Floats, saliency_HW: Floats) -> float | None:
    """Return Pearson's r over pixels, in float64; None if a map is constant."""
    with np.errstate(invalid="ignore"):  # infinite maps have no spread, as those with NaN
        varied = np.ptp(gaze_HW) > 0 and np.ptp(saliency_HW) > 0
    if not varied:
        return None  # a mean is rounded, so the deviations from it need not be zero
    q, p = (array.astype(np.float64).ravel() - array.mean(dtype=np.float64) for array in (gaze_HW, saliency_HW))
    spread = float(np.sqrt((q @ q) * (p @ p)))
    return float(q @ p / spread) if spread > 0 else None


def histogram_similarity(gaze_HW: Floats, saliency_HW: Floats) -> float | None:
    """Return sum min(p, q), each first brought to sum 1: 1 for equal maps, 0 for disjoint ones; None without mass."""
    q, p = _normalised(gaze_HW), _normalised(saliency_HW)
    return None if q is None or p is None else float(np.minimum(q, p).sum())


def _normalised(map_HW: Floats) -> NDArray[np.float64] | None:
    """Return a map that sums to 1; None if it can't: it is zero everywhere, or not a number somewhere."""
    wide = map_HW.astype(np.float64)
    total = wide.sum()
    if not (np.isfinite(total) and total > 0):
        return None
    normalised: NDArray[np.float64] = wide / total
    return normalised


def saliency_metrics(scores: list[MapScores]) -> SaliencyMetrics:
    """Sum up the scores of single images; ValueError without images."""
    if not scores:
        raise ValueError("no gaze map to compute metrics of")
    (kl, kl_std, undefined_kl), (cc, cc_std, undefined_cc), (hs, hs_std, undefined_hs) = (
        _sum_up(values) for values in zip(*scores, strict=True)
    )
    return SaliencyMetrics(
        images=len(scores), kl=kl, kl_std=kl_std, cc=cc, cc_std=cc_std, hs=hs, hs_std=hs_std,
        undefined_cc=undefined_cc, undefined_kl=undefined_kl, undefined_hs=undefined_hs,
    )  # fmt: skip


def _sum_up(values: tuple[float | None, ...]) -> tuple[float | None, float | None, int]:
    """Return mean and deviation of the values that there are, and how many are missing."""
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return None, None, len(values)
    return float(known.mean()), float(known.std()), len(values) - len(known)


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float | None],
    patients: list[str],
    *,
    rounds: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Percentile interval of a statistic under resampling of patients, not images: those of one are alike.

    Parameters
    ----------
    statistic
        Value of the images at some indices, or None where it is undefined.
    patients
        Of each image.

    Returns
    -------
    Interval or None
        None if the statistic is undefined on the images themselves.
    """
    names, group_N = np.unique(np.array(patients, dtype=str), return_inverse=True)
    members = [np.flatnonzero(group_N == group) for group in range(len(names))]
    value = statistic(np.arange(len(patients)))
    if value is None:
        return None
    rng = np.random.default_rng(seed)
    draws = [
        statistic(np.concatenate([members[group] for group in rng.integers(0, len(names), len(names))]))
        for _ in range(rounds)
    ]
    defined = [draw for draw in draws if draw is not None]
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail]) if defined else (value, value)
    return Interval(value, float(low), float(high))
