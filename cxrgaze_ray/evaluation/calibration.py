"""A temperature for a bundle's probabilities, fitted on the validation split (Guo et al., ICML 2017).

One number divides all logits: no arg-max moves, and probabilities say how often the model is right. It is not fitted on
images that the weights learned from, where every model looks sure, nor on the test split, which has to judge it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.cluster.connection import Connect
from cxrgaze_ray.evaluation.answers import Labelled, PoolSettings, answerable, table_of_bundle
from cxrgaze_ray.evaluation.statistics import brier_score, calibration_error, log_loss
from cxrgaze_ray.evaluation.table import EvaluationTable
from cxrgaze_ray.models.calibration import Calibration, CalibrationScores
from cxrgaze_ray.schemas import CLASSES

if TYPE_CHECKING:
    from cxrgaze_ray.models.bundle import Bundle

LEAST_IMAGES = 30
"""Labelled images below which the likeliest temperature is mostly chance."""

_SPLIT = "validation"
_REACH = 10.0
"""Temperatures from 1/10 to 10 are tried; one at the edge says that there is no likeliest."""

_DIGITS = 4


def calibrated(
    bundle: Bundle,
    store: Labelled,
    *,
    connect: Connect = nullcontext,
    pool: PoolSettings | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Return the bundle with the temperature that fits the store's validation split, and how that was found.

    A bundle that predicts no classes is returned as it is. Parameters and errors are those of `table_of_bundle`.
    """
    if "classes" not in bundle.info.predicts:
        return bundle
    if not bundle.info.tells_classes:
        found = Calibration(images=0, patients=0, why="no phase of its training taught it the classes")
    elif answerable(bundle.info, store, _SPLIT):
        answers = table_of_bundle(bundle, store, _SPLIT, maps=False, connect=connect, pool=pool)
        found = fit_temperature(answers.labelled(), bundle.info.temperature)
    else:
        found = Calibration(images=0, patients=0, why="the validation split has no image for it")
    say(found.told())
    return bundle.with_calibration(found)


def fit_temperature(labelled: EvaluationTable, current: float = 1.0) -> Calibration:
    """Return the temperature that makes the labels likeliest.

    Parameters
    ----------
    labelled
        Answers to labelled images.
    current
        Temperature that their probabilities were made with.

    Returns
    -------
    Calibration
        With temperature 1 and a reason where the images can't tell: too few, of one class, told apart without an error
        (whoever is surer is then always likelier), or not told apart at all.
    """
    images, patients = len(labelled), len(set(labelled.patients))
    if why := _unfit(labelled):
        before = _scores(_at(labelled, current, 1.0), labelled.labels_N) if images else None
        return Calibration(images=images, patients=patients, before=before, after=before, why=why)
    temperature, why = _likeliest(labelled, current)
    before, after = (_scores(_at(labelled, current, one), labelled.labels_N) for one in (1.0, temperature))
    return Calibration(images=images, patients=patients, temperature=temperature, before=before, after=after, why=why)


def _unfit(labelled: EvaluationTable) -> str:
    present = np.unique(labelled.labels_N)
    if not len(labelled):
        return f"no image of the {_SPLIT} split has a label"
    if len(labelled) < LEAST_IMAGES:
        return f"{len(labelled)} labelled images of the {_SPLIT} split are too few; {LEAST_IMAGES} are needed"
    if len(present) == 1:
        name = CLASSES[int(present[0])].replace("_", " ")
        return f"all labelled images of the {_SPLIT} split are of class {name}"
    return ""


def _likeliest(labelled: EvaluationTable, current: float) -> tuple[float, str]:
    from scipy.optimize import minimize_scalar  # half a second to import

    # the loss is convex in 1/temperature, so that there is one minimum to find
    found = minimize_scalar(
        lambda inverse: _value(log_loss, _at(labelled, current, 1 / inverse), labelled.labels_N),
        bounds=(1 / _REACH, _REACH),
        method="bounded",
        options={"xatol": 1e-7},
    )
    if found.x > 0.99 * _REACH:
        return 1.0, f"the model tells the {_SPLIT} split's classes apart too well to show how sure it may be"
    if found.x < 1.01 / _REACH:
        return 1.0, f"the model's logits tell next to nothing of the {_SPLIT} split's classes"
    return round(float(1 / found.x), _DIGITS), ""


def _at(labelled: EvaluationTable, current: float, temperature: float) -> NDArray[np.float64]:
    """Return probabilities at another temperature: their logarithms are logits but for a constant of each image."""
    least = np.finfo(np.float32).tiny
    logits_NK = current * np.log(np.maximum(labelled.probabilities_NK.astype(np.float64), least))
    logits_NK = (logits_NK - logits_NK.max(axis=1, keepdims=True)) / temperature
    odds_NK = np.exp(logits_NK)
    return np.asarray(odds_NK / odds_NK.sum(axis=1, keepdims=True))


def _scores(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> CalibrationScores:
    nll, brier, ece = (
        round(_value(one, probabilities_NK, labels_N), 6) for one in (log_loss, brier_score, calibration_error)
    )
    return CalibrationScores(nll=nll, brier=brier, ece=ece)


def _value(
    score: Callable[..., NDArray[np.float64]], probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]
) -> float:
    return float(score(probabilities_NK, labels_N, np.ones((len(labels_N), 1), np.float32))[0])
