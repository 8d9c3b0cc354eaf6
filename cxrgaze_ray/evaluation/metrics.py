"""Metrics of diagnosis and saliency: NumPy in, dataclass out. Definitions as in Qiu et al. (Med Phys 2025)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.statistics import Floats, Interval, auc, calibration_error, macro_auc, value_of
from cxrgaze_ray.evaluation.table import MAP_SCORES, MapScores
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

    def shown_auc(self, name: str) -> str:
        """Return a class's AUC for people, or why there is none."""
        if (value := self.auc[name]) is not None:
            return _number(value)
        examples = sum(self.confusion[CLASSES.index(name)])
        return {0: "undefined: no image is of it", self.images: "undefined: every image is of it"}.get(
            examples, _number(None)
        )


@dataclass(frozen=True)
class SaliencyMetrics:
    """Means and population standard deviations over those of N images with a defined figure; None if there are none.

    Attributes
    ----------
    nss, sauc
        NSS and shuffled AUC: see `maps`.
    undefined_cc
        Number of images left out of CC because a map was constant.
    undefined_kl, undefined_hs
        Number of images left out of KL and HS: a map had no mass, so it is no density, or the figure is not known.
    undefined_nss, undefined_sauc
        Number of images left out of NSS and shuffled AUC: a map was constant or no map, or nobody kept where readers
        looked.
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
    nss: float | None = None
    nss_std: float | None = None
    sauc: float | None = None
    sauc_std: float | None = None
    undefined_nss: int = 0
    undefined_sauc: int = 0


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
        Metrics of the labelled images, and of those with gaze; None where the model does not predict them either.
    intervals
        95% bootstrap intervals clustered by patient: auc_macro, accuracy, ece, cc, nss, sauc.
    note
        Limits of these figures, for people.
    scores
        Scores of single images.
    centre, readers
        What `saliency` must be seen beside: the centre-bias baseline on the same images, and the readers' agreement on
        those with several: see `table.ImageScores`.
    missing
        Why one of these four is None although the model predicts it, by that name.
    """

    images: int
    diagnosis: DiagnosisMetrics | None
    saliency: SaliencyMetrics | None
    intervals: dict[str, Interval | None]
    note: str = ""
    scores: tuple[ImageScore, ...] = ()
    centre: SaliencyMetrics | None = None
    readers: SaliencyMetrics | None = None
    missing: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return everything but the single images, for JSON, which has no NaN: None where a figure is not known."""
        return {name: value for name, value in asdict(self).items() if name != "scores"}

    def rows(self) -> list[list[str]]:
        """Return (metric, value, interval) rows for a table."""
        rows = [["images", str(self.images), ""]]
        if self.diagnosis:
            diagnosis = self.diagnosis
            rows += [[f"AUC {name.replace('_', ' ')}", diagnosis.shown_auc(name), ""] for name in diagnosis.auc]
            rows += [["AUC macro", _number(diagnosis.auc_macro), _span(self.intervals.get("auc_macro"))]]
            rows += [["AUC micro", _number(diagnosis.auc_micro), ""]]
            rows += [["accuracy", _number(diagnosis.accuracy), _span(self.intervals.get("accuracy"))]]
            if diagnosis.ece is not None:
                rows += [["calibration error", _number(diagnosis.ece), _span(self.intervals.get("ece"))]]
        if self.saliency:
            rows += _saliency_rows("saliency", self.saliency, self.intervals)
            rows += [["maps without mass", str(self.saliency.undefined_hs), ""]] if self.saliency.undefined_hs else []
            for name, title in BESIDE.items():
                beside: SaliencyMetrics | None = getattr(self, name)
                rows += _saliency_rows(title, beside, {}) if beside else []
        return rows + [[title, self.missing[name], ""] for name, title in TITLES.items() if name in self.missing]


SALIENCY_TITLES = {"cc": "CC", "hs": "HS", "kl": "KL", "nss": "NSS", "sauc": "shuffled AUC"}
BESIDE = {"centre": "centre-bias baseline", "readers": "readers' agreement"}
"""What saliency is seen beside, by its name in `Evaluation`."""

TITLES = {"diagnosis": "diagnosis", "saliency": "saliency", **BESIDE}


def _saliency_rows(title: str, metrics: SaliencyMetrics, intervals: dict[str, Interval | None]) -> list[list[str]]:
    count = [] if title == "saliency" else [[title, f"of {metrics.images} images", ""]]
    return count + [
        [f"{title} {shown}", _mean_and_spread(metrics, name), _span(intervals.get(name))]
        for name, shown in SALIENCY_TITLES.items()
    ]


def _mean_and_spread(metrics: SaliencyMetrics, name: str) -> str:
    mean, spread = getattr(metrics, name), getattr(metrics, f"{name}_std")
    if mean is None:
        return "undefined" if name == "cc" else "not known"
    return f"{mean:.3f} (std {spread:.3f})"


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


def saliency_metrics(scores: list[MapScores]) -> SaliencyMetrics:
    """Summarise the scores of single images; ValueError without images."""
    if not scores:
        raise ValueError("no gaze map to compute metrics from")
    figures: dict[str, Any] = {}
    for name, values in zip(MAP_SCORES, zip(*scores, strict=True), strict=True):
        figures[name], figures[f"{name}_std"], figures[f"undefined_{name}"] = _sum_up(values)
    return SaliencyMetrics(images=len(scores), **figures)


def _sum_up(values: tuple[float | None, ...]) -> tuple[float | None, float | None, int]:
    """Return mean and deviation of the values that are not None, and how many are."""
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return None, None, len(values)
    return float(known.mean()), float(known.std()), len(values) - len(known)
