"""An HTTP answer holds what the model predicts, and says what that is."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.models.bundle import BundleInfo
from cxrgaze_ray.models.predictions import Predictions, StoredPredictions, stored
from cxrgaze_ray.models.settings import BOTH, PRESETS, Answer, architecture
from cxrgaze_ray.radiograph.decoding import Decoded
from cxrgaze_ray.radiograph.preprocess import fit
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.serving.replies import Serving, answer, describe, refuse_cam, refuse_picture

PIN = ModelPin(uri="/r", name="m", version="v0001", weights_sha256="ab" * 32, trained=True)
FACTS: dict[str, Any] = {"view_position": "PA", "photometric_check": "agrees", "oddities": None}
DECODED = Decoded(pixels=np.zeros((640, 512), np.uint16), affine=fit(48, 40), facts=FACTS)
OF_CLASSES, OF_SALIENCY = {"prediction", "probabilities"}, {"saliency"}


def serving(predicts: tuple[Answer, ...]) -> Serving:
    info = BundleInfo(
        name="m",
        trained=True,
        network=PRESETS["tiny"],
        predicts=predicts,
        profile="cxrgaze-v1",
        weights_sha256="ab" * 32,
    )
    return Serving(PIN, "reference-float32-cpu", info, decoders=None)  # type: ignore[arg-type]


def predicted(predicts: tuple[Answer, ...]) -> StoredPredictions:
    chances = np.array([[0.2, 0.5, 0.3]], np.float32) if "classes" in predicts else None
    maps = np.full((1, 640, 512), 1 / (640 * 512), np.float32) if "saliency" in predicts else None
    return stored(Predictions(chances, chances, maps))


def answered(served: Serving, result: StoredPredictions) -> dict[str, Any]:
    """Return an answer as a client reads it."""
    found: dict[str, Any] = json.loads(answer(served, DECODED, result).json_bytes())
    return found


@pytest.mark.parametrize(
    ("predicts", "present"),
    [(("classes",), OF_CLASSES), (("saliency",), OF_SALIENCY), (BOTH, OF_CLASSES | OF_SALIENCY)],
)
def test_an_answer_holds_what_is_predicted_and_nothing_else(predicts: tuple[Answer, ...], present: set[str]) -> None:
    found = answered(serving(predicts), predicted(predicts))
    assert found.keys() & (OF_CLASSES | OF_SALIENCY) == present
    assert found["model"]["predicts"] == list(predicts)
    assert describe(serving(predicts)).classes == (list(CLASSES) if "classes" in predicts else [])
    if "classes" in predicts:
        assert found["prediction"] == "heart_failure"


@pytest.mark.parametrize(
    ("accepted", "code"),
    [("image/png", 406), ("image/png, application/json", None), ("image/png,*/*", None), ("", None)],
)
def test_only_who_takes_nothing_but_a_map_is_refused_where_there_is_none(accepted: str, code: int | None) -> None:
    refused = refuse_picture(accepted, serving(("classes",)))
    assert (refused.code if refused else None) == code
    assert refuse_picture(accepted, serving(("saliency",))) is None


def test_grad_cam_is_told_apart_from_the_predicted_gaze() -> None:
    cam = np.linspace(0, 1, 640 * 512, dtype=np.float32).reshape(1, 640, 512)
    explained = stored(Predictions(None, None, None, cam, np.array([2])))
    result = replace(predicted(BOTH), cam=explained.cam, cam_target_B=explained.cam_target_B)
    found = answered(serving(BOTH), result)
    assert found.keys() >= OF_CLASSES | OF_SALIENCY
    assert found["grad_cam"]["target"] == "pneumonia" != found["prediction"]
    assert "not where a reader would look" in found["grad_cam"]["meaning"]
    assert found["grad_cam"]["affine"] == found["saliency"]["affine"]
    shown = saliency.decode_relative(base64.b64decode(found["grad_cam"]["png_base64"]))
    np.testing.assert_allclose(shown, cam[0], atol=0.01)
    assert "grad_cam" not in answered(serving(BOTH), predicted(BOTH))


@pytest.mark.parametrize(
    ("accepted", "reason"), [("image/png", "grad_cam_is_json"), ("", None), ("application/json", None)]
)
def test_grad_cam_that_can_t_be_sent_is_refused(accepted: str, reason: str | None) -> None:
    refused = refuse_cam(accepted, serving(BOTH))
    assert (refused.body["reason"] if refused else None) == reason


def test_a_model_without_a_densenet_refuses_grad_cam_only() -> None:
    served = serving(BOTH)
    other = replace(served, info=served.info.model_copy(update={"network": architecture("mt-unet", "tiny")}))
    refused = refuse_cam("", other)
    assert refused is not None
    assert (refused.code, refused.body["reason"]) == (400, "no_grad_cam")
    assert "dnet201 or dnet201-cl" in refused.body["error"]
    assert not describe(other).grad_cam
    assert describe(served).grad_cam
