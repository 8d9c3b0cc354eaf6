"""Made-up predictions of two models for the same patients, whose true difference is known.

An image's score of a class is a signal where the class is true, plus noise: part of it both models share (the image is
hard), part is each model's own; part is the patient's, so that the images of a patient are alike. Probabilities are the
true posterior of a model's scores: both models are calibrated unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.metrics import diagnosis_metrics
from cxrgaze_ray.evaluation.table import EvaluationTable, score_columns
from cxrgaze_ray.schemas import CLASSES

SIGNAL = 1.3
SHARED_SD = {"patient": 0.5, "image": 0.7}
OWN_SD = {"patient": 0.3, "image": 0.4}
FACET_SHARES: dict[str, dict[str | None, float]] = {
    "sex": {"F": 0.45, "M": 0.5, None: 0.05},
    "age_band": {"30-39": 0.1, "40-49": 0.15, "50-59": 0.2, "60-69": 0.2, "70-79": 0.2, "80-89": 0.15},
    "view_position": {"AP": 0.6, "PA": 0.4},
    "manufacturer": {"Ostia": 0.5, "Veii": 0.35, "Cumae": 0.15},
}
HARMED = ("manufacturer", "Cumae")
CC_MEAN, CC_SHARED_SD, CC_OWN_SD, SEEN = 0.6, 0.12, 0.06, 0.5


@dataclass(frozen=True)
class Model:
    """How a model differs from the champion, which has all defaults.

    Attributes
    ----------
    own
        Times its own noise.
    own_harmed
        The same for images of `HARMED`; it knows, and is less confident there, so that its calibration does not tell.
    temperature
        Below 1 it is over-confident.
    cc_loss
        By how much its maps correlate less with gaze.
    """

    own: float = 1.0
    own_harmed: float | None = None
    temperature: float = 1.0
    cc_loss: float = 0.0


CHAMPION = Model()


def table_pair(patients: int, seed: int, candidate: Model = CHAMPION) -> tuple[EvaluationTable, EvaluationTable]:
    """Return champion's and candidate's predictions for one to three images of each patient."""
    rng = np.random.default_rng(seed)
    patient_N = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    labels_N = rng.integers(0, len(CLASSES), patients)[patient_N]
    facets = {name: _facet(rng, shares, patient_N) for name, shares in FACET_SHARES.items()}
    shared_NK, seen_N = _noise(rng, patient_N, SHARED_SD), (rng.random(patients) < SEEN)[patient_N]
    cc_N = CC_MEAN + CC_SHARED_SD * rng.standard_normal(patients)[patient_N]
    harmed_N = np.array([value == HARMED[1] for value in facets[HARMED[0]]])

    image_ids = tuple(map(str, range(len(patient_N))))
    names = tuple(map(str, patient_N.tolist()))

    def table(model: Model) -> EvaluationTable:
        own_NK, scale_N = _noise(rng, patient_N, OWN_SD), _scale(model, harmed_N)
        scores_NK = SIGNAL * np.eye(len(CLASSES))[labels_N] + shared_NK + scale_N[:, None] * own_NK
        maps_N = cc_N - model.cc_loss + CC_OWN_SD * rng.standard_normal(len(patient_N))
        return EvaluationTable(
            image_ids, names,
            labels_N, _posterior(scores_NK, scale_N, model),
            score_columns(len(patient_N), cc=np.where(seen_N, maps_N, np.nan)), seen_N, facets,
        )  # fmt: skip

    return table(CHAMPION), table(candidate)


def _facet(
    rng: np.random.Generator, shares: dict[str | None, float], patient_N: NDArray[np.int64]
) -> tuple[str | None, ...]:
    values = list(shares)
    drawn = rng.choice(len(values), patient_N[-1] + 1, p=list(shares.values()))
    return tuple(np.array(values, dtype=object)[drawn[patient_N]].tolist())


def _noise(rng: np.random.Generator, patient_N: NDArray[np.int64], sd: dict[str, float]) -> NDArray[np.float64]:
    of_patient = rng.standard_normal((patient_N[-1] + 1, len(CLASSES)))[patient_N]
    return sd["patient"] * of_patient + sd["image"] * rng.standard_normal(of_patient.shape)


def _scale(model: Model, harmed_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(harmed_N, model.own if model.own_harmed is None else model.own_harmed, model.own)


def _posterior(scores_NK: NDArray[np.float64], scale_N: NDArray[np.float64], model: Model) -> NDArray[np.float32]:
    variance_N = sum(sd**2 for sd in SHARED_SD.values()) + scale_N**2 * sum(sd**2 for sd in OWN_SD.values())
    logits_NK = SIGNAL / variance_N[:, None] / model.temperature * scores_NK
    odds_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    return np.asarray(odds_NK / odds_NK.sum(axis=1, keepdims=True), np.float32)


def true_loss(candidate: Model, *, harmed_only: bool = False) -> tuple[float, float]:
    """Return by how much the candidate's macro AUC is lower and its calibration error higher, on 60,000 patients.

    Both play the same part, so that they have the same noise: what is left is the difference of the models.
    """
    old, new = (_metrics(model, harmed_only) for model in (CHAMPION, candidate))
    return old[0] - new[0], new[1] - old[1]


@cache
def _metrics(model: Model, harmed_only: bool) -> tuple[float, float]:
    _, table = table_pair(60_000, 2_000_000_011, model)
    if harmed_only:
        table = table.take(np.array([value == HARMED[1] for value in table.facets[HARMED[0]]]))
    found = diagnosis_metrics(table.probabilities_NK, table.labels_N)
    assert found.auc_macro is not None
    assert found.ece is not None
    return found.auc_macro, found.ece
