"""Metrics of diagnosis and saliency: NumPy in, dataclass out. Definitions as in Qiu et al. (Med Phys 2025)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.curves import Curves
from cxrgaze_ray.evaluation.statistics import (
    Floats,
    Interval,
    Values,
    Weights,
    auc,
    brier_score,
    calibration_error,
    log_loss,
    macro_auc,
    micro_auc,
    value_of,
)
from cxrgaze_ray.evaluation.subgroups import Subgroup
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
    nll, brier
        Log loss and Brier score of the probabilities: see `statistics`.
    """

    images: int
    auc: dict[str, float | None]
    auc_macro: float | None
    auc_micro: float | None
    accuracy: float
    confusion: tuple[tuple[int, ...], ...]
    ece: float | None = None
    nll: float | None = None
    brier: float | None = None

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
        95% bootstrap intervals clustered by patient: auc_CLASS, auc_macro, auc_micro, accuracy, ece, nll, brier, and
        `table.MAP_SCORES`.
    note
        Limits of these figures, for people.
    scores
        Scores of single images.
    centre, readers
        What `saliency` must be seen beside: the centre-bias baseline on the same images, and the readers' agreement on
        those with several: see `table.ImageScores`.
    missing
        Why one of these four is None although the model predicts it, by that name.
    subgroups
        The same by what files state; empty if they state nothing.
    curves
        What is drawn of the diagnosis; None without one.
    reach
        What so many images can show, for people; empty if nothing was measured on them.
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
    subgroups: tuple[Subgroup, ...] = ()
    curves: Curves | None = None
    reach: str = ""

    def summary(self) -> dict[str, Any]:
        """Return everything but the single images, for JSON, which has no NaN: None where a figure is not known."""
        return {name: value for name, value in asdict(self).items() if name != "scores"}

    def rows(self) -> list[list[str]]:
        """Return (metric, value, interval) rows for a table."""
        rows = [["images", str(self.images), ""]]
        if self.diagnosis:
            diagnosis = self.diagnosis
            rows += [
                [f"AUC {name.replace('_', ' ')}", diagnosis.shown_auc(name), _span(self.intervals.get(f"auc_{name}"))]
                for name in diagnosis.auc
            ]
            for name, title in DIAGNOSIS_TITLES.items():
                value = getattr(diagnosis, name)
                if value is not None or name.startswith("auc"):
                    rows += [[title, _number(value), _span(self.intervals.get(name))]]
        if self.saliency:
            rows += _saliency_rows("saliency", self.saliency, self.intervals)
            rows += [["maps without mass", str(self.saliency.undefined_hs), ""]] if self.saliency.undefined_hs else []
            for name, title in BESIDE.items():
                beside: SaliencyMetrics | None = getattr(self, name)
                rows += _saliency_rows(title, beside, {}) if beside else []
        return rows + [[title, self.missing[name], ""] for name, title in TITLES.items() if name in self.missing]


DIAGNOSIS_TITLES = {
    "auc_macro": "AUC macro", "auc_micro": "AUC micro", "accuracy": "accuracy", "ece": "calibration error",
    "nll": "log loss", "brier": "Brier score",
}  # fmt: skip
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
    predicted_N = probabilities_NK.argmax(axis=1)
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(confusion, (labels_N, predicted_N), 1)

    def value(score: _Score) -> float | None:
        return value_of(lambda weights_NR: score(probabilities_NK, labels_N, weights_NR), len(labels_N))

    return DiagnosisMetrics(
        images=len(labels_N),
        auc={name: _auc(probabilities_NK[:, k], labels_N == k) for k, name in enumerate(CLASSES)},
        auc_macro=value(macro_auc),
        auc_micro=value(micro_auc),
        accuracy=float((predicted_N == labels_N).mean()),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        ece=value(calibration_error),
        nll=value(log_loss),
        brier=value(brier_score),
    )


_Score = Callable[[Floats, NDArray[np.integer], Weights], Values]


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
