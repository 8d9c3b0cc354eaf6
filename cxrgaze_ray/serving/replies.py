"""The ingress's answers, in a module of their own: Ray Serve pickles the routes while `ingress` is being imported, so
they can use only names imported or defined above them.
"""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cxrgaze_ray.errors import BundleError, RadiographError
from cxrgaze_ray.http.refusals import Reply, refuse
from cxrgaze_ray.models.bundle import BundleInfo
from cxrgaze_ray.models.predictions import StoredPredictions
from cxrgaze_ray.radiograph.decoding import Decoded
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.schemas import CAM_MEANING, CLASSES, RESEARCH_ONLY, Reason, split_oddities
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


def refuse_cam(asked: str, accepted: str, serving: Serving) -> Reply | None:
    """Refuse a value of ?cam= that is none, and Grad-CAM where it can't be computed or sent."""
    if asked not in ("true", "false"):
        return refuse(400, "cam is true or false.", "bad_query")
    if asked == "false":
        return None
    try:
        serving.info.check_cam()
    except BundleError as error:
        return refuse(400, str(error), "no_grad_cam")
    if "image/png" in accepted:
        return refuse(
            406, "Grad-CAM comes in the JSON answer: leave out Accept: image/png, or cam.", "grad_cam_is_json"
        )
    return None


def describe(serving: Serving) -> dict[str, Any]:
    """Describe the model being served."""
    return {
        "name": serving.pin.name,
        "version": serving.pin.version,
        "weights_sha256": serving.pin.weights_sha256,
        "trained": serving.pin.trained,
        "profile": serving.info.profile,
        "engine": serving.engine,
        "predicts": list(serving.info.predicts),
        "classes": list(CLASSES) if "classes" in serving.info.predicts else [],
        "intended_use": RESEARCH_ONLY,
    }


def answer(serving: Serving, decoded: Decoded, result: StoredPredictions) -> dict[str, Any]:
    """Build the answer to a request; what the model does not predict has no key."""
    return {
        **_classes(result),
        "model": describe(serving),
        "profile": serving.info.profile,
        "view_position": decoded.facts["view_position"],
        "photometric_check": decoded.facts["photometric_check"],
        "oddities": split_oddities(decoded.facts["oddities"]),
        **_saliency(result, decoded),
        **_cam(result, decoded),
        "intended_use": RESEARCH_ONLY,
    }


def _classes(result: StoredPredictions) -> dict[str, Any]:
    if result.probabilities_BK is None:
        return {}
    probabilities = result.probabilities_BK[0]
    return {
        "prediction": CLASSES[int(np.argmax(probabilities))],
        "probabilities": {name: float(p) for name, p in zip(CLASSES, probabilities, strict=True)},
    }


def _saliency(result: StoredPredictions, decoded: Decoded) -> dict[str, Any]:
    if result.saliency is None:
        return {}
    ((png, peak),) = result.saliency.pngs()
    encoded = base64.b64encode(png).decode()
    return {"saliency": {"png_base64": encoded, "peak": peak, "affine": asdict(decoded.affine)}}


def _cam(result: StoredPredictions, decoded: Decoded) -> dict[str, Any]:
    if result.cam is None or result.cam_target_B is None:
        return {}
    ((png, _),) = result.cam.pngs()
    return {
        "grad_cam": {
            "png_base64": base64.b64encode(png).decode(),
            "target": CLASSES[int(result.cam_target_B[0])],
            "affine": asdict(decoded.affine),
            "meaning": CAM_MEANING,
        }
    }
