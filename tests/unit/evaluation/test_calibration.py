"""A temperature is found where the images can tell, and where they can't it is said why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.calibration import LEAST_IMAGES, calibrated, fit_temperature
from cxrgaze_ray.evaluation.table import UNKNOWN, EvaluationTable
from cxrgaze_ray.models.bundle import Bundle, Lineage, make_bundle
from cxrgaze_ray.models.calibration import Calibration, CalibrationScores
from cxrgaze_ray.models.settings import architecture
from cxrgaze_ray.models.zoo import build
from tests.labelled_store import write_store
from tests.model_pairs import Model, table_pair


def answers(temperature: float = 1.0, patients: int = 400) -> EvaluationTable:
    """Answers of a model whose probabilities are the true ones at temperature 1, and too sure below that."""
    return table_pair(patients, 5, Model(temperature=temperature))[1]


def with_probabilities(table: EvaluationTable, probabilities_NK: NDArray[np.float64]) -> EvaluationTable:
    return replace(table, probabilities_NK=probabilities_NK.astype(np.float32))


@pytest.mark.parametrize("sure", [0.4, 1.0, 2.5])
def test_the_temperature_undoes_what_made_the_model_too_sure(sure: float) -> None:
    found = fit_temperature(answers(sure))
    assert found.temperature == pytest.approx(1 / sure, rel=0.12)
    assert found.why == ""
    assert found.before is not None
    assert found.after is not None
    assert found.after.nll <= found.before.nll
    if sure == 0.4:
        assert found.after.ece < found.before.ece / 2
        assert found.after.brier < found.before.brier


def test_what_was_fitted_is_told_beside_what_it_did_to_the_calibration_error() -> None:
    before = CalibrationScores(nll=0.51234, brier=0.3, ece=0.157)
    after = CalibrationScores(nll=0.5101, brier=0.3, ece=0.184)
    found = Calibration(images=39, patients=30, temperature=0.9684, before=before, after=after)
    assert found.told() == (
        "Temperature 0.9684 was fitted to lower the log loss of 39 images of the validation split, from 0.5123 to "
        "0.5101; their calibration error, which so few images tell badly, went from 0.157 to 0.184."
    )
    assert "tell badly" not in found.model_copy(update={"images": 2000}).told()


def test_probabilities_of_another_temperature_lead_to_the_same_one() -> None:
    table = answers(0.5)
    odds_NK = table.probabilities_NK.astype(np.float64) ** (1 / 3)
    softened = with_probabilities(table, odds_NK / odds_NK.sum(axis=1, keepdims=True))
    assert fit_temperature(softened, 3.0).temperature == pytest.approx(fit_temperature(table).temperature, abs=2e-3)


def unlabelled(table: EvaluationTable) -> EvaluationTable:
    return replace(table, labels_N=np.full(len(table), UNKNOWN)).labelled()


def few(table: EvaluationTable) -> EvaluationTable:
    return table.take(np.arange(LEAST_IMAGES - 1))


def of_one_class(table: EvaluationTable) -> EvaluationTable:
    return table.take(table.labels_N == 1)


def never_wrong(table: EvaluationTable) -> EvaluationTable:
    return with_probabilities(table, 0.05 + 0.85 * np.eye(3)[table.labels_N])


def always_wrong(table: EvaluationTable) -> EvaluationTable:
    return with_probabilities(table, 0.05 + 0.85 * np.eye(3)[(table.labels_N + 1) % 3])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (unlabelled, "no image of the validation split has a label"),
        (few, f"29 labelled images of the validation split are too few; {LEAST_IMAGES} are needed"),
        (of_one_class, "are of class heart failure"),
        (never_wrong, "apart too well"),
        (always_wrong, "next to nothing"),
    ],
)
def test_where_the_images_cannot_tell_it_stays_at_one(change: object, why: str) -> None:
    assert callable(change)
    found = fit_temperature(change(answers()))
    assert found.temperature == 1.0
    assert why in found.why
    assert why in found.told()
    assert found.before == found.after


def test_impossible_certainty_is_no_error() -> None:
    table = answers()
    sure_NK = np.eye(3)[table.probabilities_NK.argmax(axis=1)]
    found = fit_temperature(with_probabilities(table, sure_NK))
    assert found.temperature > 1 or found.why


def test_a_bundle_carries_its_temperature_and_how_it_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrgaze_ray.models.predictor.limit_threads", lambda _: None)
    store = write_store(tmp_path, {"train": 1, "validation": 3, "test": 1})
    said: list[str] = []
    bundle = calibrated(bundle_of("gazenet"), store, say=said.append)
    found = bundle.info.lineage.calibration
    assert found is not None
    assert (found.images, found.temperature, bundle.info.temperature) == (3, 1.0, 1.0)
    assert said == [found.told()]
    assert Bundle(type(bundle.info).model_validate_json(bundle.info.model_dump_json()), {}).info == bundle.info
    without = write_store(tmp_path / "without", {"train": 1, "test": 1})
    found = calibrated(bundle_of("dnet201"), without).info.lineage.calibration
    assert found is not None
    assert found.why == "the validation split has no image for it"


def test_a_head_that_no_phase_taught_is_not_recalibrated(tmp_path: Path) -> None:
    store = write_store(tmp_path, {"train": 1, "validation": 3, "test": 1})
    for phases, taught in ((["saliency"], False), (["saliency", "classifier"], True)):
        bundle = bundle_of("gazenet", Lineage(settings={"stages": {phase: {} for phase in phases}}))
        found = calibrated(bundle, store).info.lineage.calibration
        assert found is not None
        assert (found.why == "no phase of its training taught it the classes") is not taught


def test_a_model_of_gaze_alone_has_nothing_to_calibrate(tmp_path: Path) -> None:
    store = write_store(tmp_path, {"validation": 1})
    bundle = bundle_of("unet-s")
    assert calibrated(bundle, store) is bundle


def bundle_of(system: str, lineage: Lineage | None = None) -> Bundle:
    return make_bundle(build(architecture(system, "tiny"), 3), "net", trained=True, lineage=lineage)  # type: ignore[arg-type]
