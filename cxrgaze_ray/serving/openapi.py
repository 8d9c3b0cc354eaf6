"""What the OpenAPI document says beside the types: policy, codes, bodies, and the refusals of every route."""

from __future__ import annotations

from typing import Any

from cxrgaze_ray.schemas import RESEARCH_ONLY
from cxrgaze_ray.serving.contract import Answer, Batch, Health, ModelDescription, Prediction, Refusal, example

_RETRY = {"Retry-After": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer"}}}

_REFUSED = {
    400: "A query or body that can't be read, or Grad-CAM of a model that has none.",
    401: "The token is missing or wrong.",
    406: "What is accepted can't be sent.",
    408: "The body came too slowly.",
    413: "The body, or the picture, is too large.",
    415: "No DICOM, JPEG or PNG, or one whose compression nothing here reads.",
    422: "A picture that can't be scored; `reason` says why.",
    429: "Too many requests from this client, or too many wrong tokens.",
    431: "The headers are too large.",
    500: "A fault of the service.",
    503: "Not just now: no model yet, too busy, or a process was lost.",
}
_ALWAYS = (401, 408, 429, 431, 500, 503)


def description() -> str:
    """Return the document's introduction, in Markdown."""
    return f"""Normal, heart failure or pneumonia, and the gaze map that a radiologist would leave on the image.

**{RESEARCH_ONLY}**

**Token.** A service that was started with `CXRGAZE_TOKEN` asks for it on every route under `/v1`:
`Authorization: Bearer TOKEN`.

**Request ids.** Every answer carries `X-Request-ID`: the one that you sent, or else a new one.

**Trying again.** Answers 429 and 503 carry `Retry-After`. Predictions have no side effects: repeat them freely.

**Versions.** Within `/v1` paths, fields and codes are added, and none is removed or changes its meaning: ignore fields
that you do not know. What is to go answers with `Deprecation` and `Sunset` headers (RFC 9745, RFC 8594) for at least
twelve months, and what would break a client comes as `/v2` beside it.

**Reasons.** A refusal is JSON with a sentence, `error`, and a code, `reason`. The schema Refusal, at the end of this
page, lists all codes and what they mean.
"""


def answers(kind: type[Answer], *codes: int, png: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the documented answers of a route: its own kind, and the refusals with the given and the usual codes.

    Parameters
    ----------
    kind
        Type of the answer 200.
    codes
        More codes that the route refuses with, beside those that every route may.
    png
        Whether ``Accept: image/png`` is answered with a picture instead.
    """
    content: dict[str, Any] = {"application/json": {"example": example(kind)}}
    if png:
        content["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    found: dict[int | str, dict[str, Any]] = {200: {"model": kind, "description": kind.__doc__, "content": content}}
    for code in sorted({*codes, *_ALWAYS}):
        found[code] = _refused(code)
    return found


def _refused(code: int) -> dict[str, Any]:
    reason, error = _SAID[code]
    told: dict[str, Any] = {
        "model": Refusal,
        "description": _REFUSED[code],
        "content": {"application/json": {"example": {"error": error, "reason": reason}}},
    }
    return told | ({"headers": _RETRY} if code in (429, 503) else {})


_SAID = {
    400: ("bad_query", "cam is true or false."),
    401: ("unauthorised", "A bearer token is needed."),
    406: ("no_saliency", "The model predicts no saliency, and so has no map to send; accept JSON."),
    408: ("too_slow", "The body came too slowly."),
    413: ("too_large", "The body is over 64 MiB."),
    415: ("not_an_image", "This is neither DICOM nor JPEG nor PNG."),
    422: ("lateral_view", "The view is LL, which is not frontal."),
    429: ("too_many_requests", "Too many requests from this client; try again later."),
    431: ("headers_too_large", "The headers are too large."),
    500: ("bug", "This is a fault of the service; its log has the request's id."),
    503: ("not_ready", "No model is loaded yet."),
}
"""An example of each refusal: its reason and its sentence."""

_BINARY = {"type": "string", "format": "binary"}

ONE_FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file itself, whatever content type is declared, or a form with one file under any name.",
        "content": {
            **{kind: {"schema": _BINARY} for kind in ("application/octet-stream", "application/dicom")},
            **{kind: {"schema": _BINARY} for kind in ("image/jpeg", "image/png")},
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}},
            },
        },
    }
}
"""Body of a request with one picture."""

MANY_FILES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A form with one or more files, under any names; their order is the order of the rows.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {"files": {"type": "array", "items": _BINARY, "minItems": 1}},
                }
            }
        },
    }
}
"""Body of a request with several pictures."""

_ALIVE = {200: answers(Health)[200]}

HEALTH: dict[str, Any] = {"operation_id": "health", "tags": ["probes"], "responses": _ALIVE}
READY: dict[str, Any] = {"operation_id": "readiness", "tags": ["probes"], "responses": _ALIVE | {503: _refused(503)}}
MODEL: dict[str, Any] = {"operation_id": "model", "tags": ["scoring"], "responses": answers(ModelDescription)}
PREDICT: dict[str, Any] = {
    "operation_id": "predict",
    "tags": ["scoring"],
    "responses": answers(Prediction, 400, 406, 413, 415, 422, png=True),
    "openapi_extra": ONE_FILE,
}
BATCH: dict[str, Any] = {
    "operation_id": "predict_batch",
    "tags": ["scoring"],
    "responses": answers(Batch, 400, 413, 415),
    "openapi_extra": MANY_FILES,
}
"""How the routes are described, as arguments of FastAPI's decorators."""


def promised(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document as it is published.

    It is without FastAPI's own answer to a wrong query, which is refused as everything else is, and the title of each
    route is the first paragraph of what is said of it.
    """
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["summary"], _, operation["description"] = operation["description"].partition("\n\n")
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    return document
