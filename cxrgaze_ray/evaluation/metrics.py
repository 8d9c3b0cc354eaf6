"""Metrics of diagnosis and saliency: NumPy in, dataclass out. Definitions as in Qiu et al. (Med Phys 2025)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.statistics import Floats, Interval, auc, calibration_error, macro_auc, value_of
from cxrgaze_ray.evaluation.table import MapScores
from cxrgaze_ray.schemas import CLASSES


@dataclass(frozen=True)
class DiagnosisMetrics:
    """Metrics of the classification of N labelled images.

    Attributes
    ----------
    auc
        One-vs-rest AUC of each class, on softmax; None where the labels hold only one side.
    auc_macro
        Mean of the defined class AUCs; None if none is defined.
    auc_micro
        AUC over all (image, class) pairs.
    confusion
        Counts; rows are true classes, columns arg-max predictions.
    ece
        Expected calibration error: see `statistics.calibration_error`.
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
    """Means and population standard deviations over those of N images with a defined figure; None if there are none.

    Attributes
    ----------
    undefined_cc
        Number of images left out of CC because a map was constant.
    undefined_kl, undefined_hs
        Number of images left out of KL and HS: a map had no mass, so it is no density, or the figure is not known.
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
    """Scores of one image: probability of its true class, and CC with its reader's gaze; None where unknown."""

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
        Metrics of the labelled images, and of those with gaze.
    intervals
        95% bootstrap intervals clustered by patient: auc_macro, accuracy, ece, cc.
    note
        Limits of these figures, for people.
    scores
        Scores of single images.
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
            diagnosis = self.diagnosis
            rows += [[f"AUC {name.replace('_', ' ')}", _number(value), ""] for name, value in diagnosis.auc.items()]
            rows += [["AUC macro", _number(diagnosis.auc_macro), _span(self.intervals.get("auc_macro"))]]
            rows += [["AUC micro", _number(diagnosis.auc_micro), ""]]
            rows += [["accuracy", _number(diagnosis.accuracy), _span(self.intervals.get("accuracy"))]]
            if diagnosis.ece is not None:
                rows += [["calibration error", _number(diagnosis.ece), _span(self.intervals.get("ece"))]]
        if self.saliency:
            saliency = self.saliency
            rows += [["saliency CC", _number(saliency.cc), _span(self.intervals.get("cc"))]]
            rows += [["saliency HS", _number(saliency.hs), ""]]
            rows += [["saliency KL", _number(saliency.kl), ""]] if saliency.kl is not None else []
            rows += [["maps without mass", str(saliency.undefined_hs), ""]] if saliency.undefined_hs else []
        return rows


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _span(interval: Interval | None) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}" if interval else ""


def diagnosis_metrics(probabilities_NK: Floats, labels_N: NDArray[np.integer]) -> DiagnosisMetrics:
    """Compute AUCs, accuracy, calibration error and the confusion matrix.

    Raises
    ------
    ValueError
        If there are no images, or a probability is not a number: ranks would be computed from it all the same.
    """
    if not len(labels_N):
        raise ValueError("no labelled image to compute metrics from")
    if not np.isfinite(probabilities_NK).all():
        raise ValueError("a probability is not a number")
    onehot_NK, predicted_N = np.eye(len(CLASSES), dtype=bool)[labels_N], probabilities_NK.argmax(axis=1)
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(confusion, (labels_N, predicted_N), 1)
    return DiagnosisMetrics(
        images=len(labels_N),
        auc={name: _auc(probabilities_NK[:, k], onehot_NK[:, k]) for k, name in enumerate(CLASSES)},
        auc_macro=value_of(lambda weights_NR: macro_auc(probabilities_NK, labels_N, weights_NR), len(labels_N)),
        auc_micro=_auc(probabilities_NK.ravel(), onehot_NK.ravel()),
        accuracy=float((predicted_N == labels_N).mean()),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        ece=value_of(lambda weights_NR: calibration_error(probabilities_NK, labels_N, weights_NR), len(labels_N)),
    )


def _auc(score_N: Floats, truth_N: NDArray[np.bool_]) -> float | None:
    return value_of(lambda weights_NR: auc(score_N, truth_N, weights_NR), len(score_N))


def kl_divergence(gaze_HW: Floats, saliency_HW: Floats) -> float | None:
    """Return sum q (ln q - ln p), q the gaze and p the saliency, each normalised to sum 1; None without mass."""
    q, p = _normalised(gaze_HW), _normalised(saliency_HW)
    if q is None or p is None:
        return None
    p, seen = np.maximum(p, np.finfo(np.float64).tiny), q > 0
    return float(np.sum(q[seen] * (np.log(q[seen]) - np.log(p[seen]))))


def correlation(gaze_HW: Floats, saliency_HW: Floats) -> float | None:
    """Return Pearson's r over pixels, in float64; None if a map is constant."""
    with np.errstate(invalid="ignore"):  # infinite maps have no spread, like those with NaN
        varied = np.ptp(gaze_HW) > 0 and np.ptp(saliency_HW) > 0
    if not varied:
        return None  # a mean is rounded, so the deviations from it need not be zero
    q, p = (array.astype(np.float64).ravel() - array.mean(dtype=np.float64) for array in (gaze_HW, saliency_HW))
    spread = float(np.sqrt((q @ q) * (p @ p)))
    return float(q @ p / spread) if spread > 0 else None


def histogram_similarity(gaze_HW: Floats, saliency_HW: Floats) -> float | None:
    """Return sum min(p, q), each normalised to sum 1: 1 for equal maps, 0 for disjoint ones; None without mass."""
    q, p = _normalised(gaze_HW), _normalised(saliency_HW)
    return None if q is None or p is None else float(np.minimum(q, p).sum())


def _normalised(map_HW: Floats) -> NDArray[np.float64] | None:
    """Return a map normalised to sum 1; None if that fails: it is zero everywhere, or not a number somewhere."""
    wide = map_HW.astype(np.float64)
    total = wide.sum()
    if not (np.isfinite(total) and total > 0):
        return None
    normalised: NDArray[np.float64] = wide / total
    return normalised


def saliency_metrics(scores: list[MapScores]) -> SaliencyMetrics:
    """Summarise the scores of single images; ValueError without images."""
    if not scores:
        raise ValueError("no gaze map to compute metrics from")
    (kl, kl_std, undefined_kl), (cc, cc_std, undefined_cc), (hs, hs_std, undefined_hs) = (
        _sum_up(values) for values in zip(*scores, strict=True)
    )
    return SaliencyMetrics(
        images=len(scores), kl=kl, kl_std=kl_std, cc=cc, cc_std=cc_std, hs=hs, hs_std=hs_std,
        undefined_cc=undefined_cc, undefined_kl=undefined_kl, undefined_hs=undefined_hs,
    )  # fmt: skip


def _sum_up(values: tuple[float | None, ...]) -> tuple[float | None, float | None, int]:
    """Return mean and deviation of the values that are not None, and how many are."""
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return None, None, len(values)
    return float(known.mean()), float(known.std()), len(values) - len(known)
