"""The ingress's answers, and what it refuses before it has read a body."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from cxrgaze_ray.errors import BundleError, RadiographError
from cxrgaze_ray.gaze.saliency import png_bytes
from cxrgaze_ray.http.refusals import Reply, refuse
from cxrgaze_ray.models.bundle import BundleInfo
from cxrgaze_ray.models.predictions import StoredPredictions
from cxrgaze_ray.radiograph.decoding import Decoded
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.schemas import CAM_MEANING, CLASSES, RESEARCH_ONLY, Reason, Status, split_oddities, status_of
from cxrgaze_ray.serving.contract import (
    Batch,
    ClassName,
    GradCam,
    ModelDescription,
    Picture,
    Prediction,
    Probabilities,
    Row,
    Saliency,
    Shown,
)
from cxrgaze_ray.serving.decoder_pool import DecoderPool

_STATUS = {
    Reason.TOO_LARGE: 413,
    Reason.NOT_AN_IMAGE: 415,
    Reason.UNSUPPORTED_TRANSFER_SYNTAX: 415,
    Reason.EMPTY_FILE: 400,
}


@dataclass(frozen=True)
class Serving:
    """The model being served, and the decoders that work for it."""

    pin: ModelPin
    engine: str
    info: BundleInfo
    decoders: DecoderPool


def status_code(error: RadiographError) -> int:
    """Return the HTTP status of a body that can't be scored."""
    return _STATUS.get(Reason(error.reason), 422)


def refuse_picture(accepted: str, serving: Serving) -> Reply | None:
    """Refuse a request that accepts nothing but the map of a model that predicts none."""
    others = "application/json" in accepted or "*/*" in accepted
    if "saliency" in serving.info.predicts or "image/png" not in accepted or others:
        return None
    return refuse(406, "The model predicts no saliency, and so has no map to send; accept JSON.", "no_saliency")


def refuse_cam(accepted: str, serving: Serving) -> Reply | None:
    """Refuse Grad-CAM where it can't be computed or sent."""
    try:
        serving.info.check_cam()
    except BundleError as error:
        return refuse(400, str(error), "no_grad_cam")
    if "image/png" in accepted:
        return refuse(
            406, "Grad-CAM comes in the JSON answer: leave out Accept: image/png, or cam.", "grad_cam_is_json"
        )
    return None


def describe(serving: Serving) -> ModelDescription:
    """Describe the model being served."""
    return ModelDescription(
        name=serving.pin.name,
        version=serving.pin.version,
        weights_sha256=serving.pin.weights_sha256,
        trained=serving.pin.trained,
        profile=serving.info.profile,
        engine=serving.engine,
        predicts=list(serving.info.predicts),
        classes=list(get_args(ClassName)) if "classes" in serving.info.predicts else [],
        grad_cam=refuse_cam("", serving) is None,
        intended_use=RESEARCH_ONLY,
    )


def answer(serving: Serving, decoded: Decoded, result: StoredPredictions, *, picture: bool = False) -> Prediction:
    """Build the answer to a request; what the model does not predict has no key."""
    return Prediction(
        model=describe(serving),
        profile=serving.info.profile,
        intended_use=RESEARCH_ONLY,
        **_found(decoded, result, picture=picture),
    )


def scored_row(index: int, decoded: Decoded, result: StoredPredictions, *, picture: bool = False) -> Row:
    """Build the row of a batch's file that was scored."""
    found = _found(decoded, result, picture=picture)
    return Row(index=index, status=Status.SCORED, reason_code=None, **found)


def unscored_row(index: int, error: RadiographError) -> Row:
    """Build the row of a batch's file that can't be scored."""
    reason = Reason(error.reason)
    return Row(index=index, status=status_of(reason), reason_code=reason, detail=error.message)


def batch(serving: Serving, rows: list[Row]) -> Batch:
    """Build the answer to a batch."""
    return Batch(model=describe(serving), rows=rows, intended_use=RESEARCH_ONLY)


def _found(decoded: Decoded, result: StoredPredictions, *, picture: bool) -> dict[str, Any]:
    return {
        **_classes(result),
        "view_position": decoded.facts["view_position"],
        "photometric_check": decoded.facts["photometric_check"],
        "oddities": split_oddities(decoded.facts["oddities"]),
        **_saliency(result, decoded),
        **_cam(result, decoded),
        **({"picture": _picture(decoded)} if picture else {}),
    }


def _classes(result: StoredPredictions) -> dict[str, Any]:
    if result.probabilities_BK is None:
        return {}
    probabilities = result.probabilities_BK[0]
    return {
        "prediction": CLASSES[int(np.argmax(probabilities))],
        "probabilities": Probabilities(**{name: float(p) for name, p in zip(CLASSES, probabilities, strict=True)}),
    }


def _saliency(result: StoredPredictions, decoded: Decoded) -> dict[str, Any]:
    if result.saliency is None:
        return {}
    ((png, peak),) = result.saliency.pngs()
    return {"saliency": Saliency(png_base64=_text(png), peak=peak, affine=decoded.affine)}


def _cam(result: StoredPredictions, decoded: Decoded) -> dict[str, Any]:
    if result.cam is None or result.cam_target_B is None:
        return {}
    ((png, _),) = result.cam.pngs()
    target = get_args(ClassName)[int(result.cam_target_B[0])]
    return {"grad_cam": GradCam(png_base64=_text(png), target=target, affine=decoded.affine, meaning=CAM_MEANING)}


def _picture(decoded: Decoded) -> Picture:
    """Return the picture as the model saw it, in 8 bits."""
    rows, columns = decoded.affine.shown
    shown = Shown(top=rows.start, left=columns.start, height=rows.stop - rows.start, width=columns.stop - columns.start)
    return Picture(png_base64=_text(png_bytes((decoded.pixels >> 8).astype(np.uint8))), shown=shown)


def _text(png: bytes) -> str:
    return base64.b64encode(png).decode()
