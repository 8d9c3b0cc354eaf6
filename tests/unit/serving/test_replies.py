"""An HTTP answer holds what the model predicts, and says what that is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cxrgaze_ray.models.predictions import Predictions
from cxrgaze_ray.models.settings import BOTH, Answer
from cxrgaze_ray.radiograph.decoding import Decoded
from cxrgaze_ray.radiograph.preprocess import fit
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.serving.model import with_stored_maps
from cxrgaze_ray.serving.replies import Serving, answer, describe, refuse_picture

PIN = ModelPin(uri="/r", name="m", version="v0001", weights_sha256="ab" * 32, trained=True)
FACTS: dict[str, Any] = {"view_position": "PA", "photometric_check": "agrees", "oddities": None}
DECODED = Decoded(pixels=np.zeros((640, 512), np.uint16), affine=fit(48, 40), facts=FACTS)
OF_CLASSES, OF_SALIENCY = {"prediction", "probabilities"}, {"saliency"}


def serving(predicts: tuple[Answer, ...]) -> Serving:
    return Serving(PIN, "reference-float32-cpu", "cxrgaze-v1", predicts, decoders=None)  # type: ignore[arg-type]


def predicted(predicts: tuple[Answer, ...]) -> Predictions:
    chances = np.array([[0.2, 0.5, 0.3]], np.float32) if "classes" in predicts else None
    maps = np.full((1, 640, 512), 1 / (640 * 512), np.float32) if "saliency" in predicts else None
    return with_stored_maps(Predictions(chances, chances, maps))


@pytest.mark.parametrize(
    ("predicts", "present"),
    [(("classes",), OF_CLASSES), (("saliency",), OF_SALIENCY), (BOTH, OF_CLASSES | OF_SALIENCY)],
)
def test_an_answer_holds_what_is_predicted_and_nothing_else(predicts: tuple[Answer, ...], present: set[str]) -> None:
    found = answer(serving(predicts), DECODED, predicted(predicts))
    assert found.keys() & (OF_CLASSES | OF_SALIENCY) == present
    assert found["model"]["predicts"] == list(predicts)
    assert describe(serving(predicts))["classes"] == (list(CLASSES) if "classes" in predicts else [])
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
