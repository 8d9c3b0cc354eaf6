"""The HTTP contract, version 1: every request and answer as a type, from which the OpenAPI document is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from cxrgaze_ray.http.refusals import MEANINGS
from cxrgaze_ray.schemas import CAM_MEANING, HEIGHT, REASON_HELP, RESEARCH_ONLY, WIDTH, Affine, Oddity, Reason, Status

ClassName = Literal["normal", "heart_failure", "pneumonia"]
"""The names in `schemas.CLASSES`, as a type."""

REFUSALS = {
    **MEANINGS,
    "no_saliency": "Only a map is accepted, and the model predicts none.",
    "no_grad_cam": "The model has no DenseNet whose head Grad-CAM could explain.",
    "grad_cam_is_json": "Grad-CAM comes in the JSON answer, and only a PNG is accepted.",
    "not_a_form": "A batch is a multipart form with at least one file.",
    "too_many_images": "A batch holds more images than the service takes at once.",
    "decoder_unavailable": "No decoding process can start just now; try again after Retry-After seconds.",
    "model_unavailable": "The model is not available just now; try again after Retry-After seconds.",
}
"""Reason codes of refusals that say nothing about a picture, and what they mean."""


def _reasons() -> str:
    """Return what a reason code may be, in Markdown."""
    about_request = "\n".join(f"- `{code}`: {told}" for code, told in REFUSALS.items())
    about_file = "\n".join(f"- `{code}`: {told}" for code, told in REASON_HELP.items())
    return (
        f"A code for programs.\n\nAbout the request:\n\n{about_request}\n\n"
        f"About the file, as in a run's `reason_code`:\n\n{about_file}"
    )


def _true_or_false(given: object) -> object:
    if given in (True, False, "true", "false"):
        return given
    raise PydanticCustomError("true_or_false", "is true or false.")


Absent = SkipJsonSchema[None]
"""Of a field that has no key where there is nothing to say, and is never null."""

Flag = Annotated[bool, BeforeValidator(_true_or_false)]


@dataclass(frozen=True)
class Asked:
    """What an answer is to hold beside the prediction."""

    cam: Annotated[Flag, Query(description="Add Grad-CAM of DenseNet's own head, where the model has one.")] = False
    picture: Annotated[Flag, Query(description="Add the picture as the model saw it, to lay the maps over.")] = False


class Answer(BaseModel):
    """Base of all answers. Fields may be added within /v1: ignore those that you do not know."""

    model_config = ConfigDict(frozen=True)

    def json_bytes(self) -> bytes:
        """Return the answer's body: what was not set has no key."""
        return self.model_dump_json(exclude_unset=True).encode()


class Health(Answer):
    """The application runs, or is ready."""

    status: Literal["ok"]


class Refusal(Answer):
    """Why a request was not answered otherwise."""

    error: str = Field(description="One sentence for people: what happened, and what to do.")
    reason: str = Field(description=_reasons())
    request_id: str | Absent = Field(None, description="The id under which the log knows a fault of the service.")


class ModelDescription(Answer):
    """The model that is served."""

    name: str
    version: str
    weights_sha256: str
    trained: bool = Field(description="False for weights that were drawn and never trained.")
    profile: str = Field(description="How bytes become the picture that the model sees.")
    engine: str = Field(description="How the network is computed here.")
    predicts: list[Literal["classes", "saliency"]]
    classes: list[ClassName]
    grad_cam: bool = Field(description="Whether ?cam=true is answered.")
    intended_use: str


class Saliency(Answer):
    """Where a radiologist would look: a density over the picture."""

    png_base64: str = Field(description="8-bit grey PNG of 256x320 over the whole model image, scaled to its peak.")
    peak: float = Field(description="What level 255 stands for, as a share of the density that sums to 1.")
    affine: Affine = Field(description="From the file's pixels to the model image of 512x640.")


class GradCam(Answer):
    """Which pixels moved the logit of a class: not where a reader would look."""

    png_base64: str = Field(description="8-bit grey PNG of 256x320 over the whole model image, with a peak of 255.")
    target: ClassName = Field(description="The class that it explains; it need not be the prediction.")
    affine: Affine
    meaning: str


class Shown(Answer):
    """The part of the model image that shows the file's picture; the rest is padding."""

    top: int = Field(ge=0, lt=HEIGHT)
    left: int = Field(ge=0, lt=WIDTH)
    height: int = Field(gt=0, le=HEIGHT)
    width: int = Field(gt=0, le=WIDTH)


class Picture(Answer):
    """The picture as the model saw it: decoded, turned upright, and scaled into the model image."""

    png_base64: str = Field(description="8-bit grey PNG of 512x640; maps of 256x320 lie over the whole of it.")
    shown: Shown


class Probabilities(Answer):
    """One for each class; they sum to 1."""

    normal: float = Field(ge=0, le=1)
    heart_failure: float = Field(ge=0, le=1)
    pneumonia: float = Field(ge=0, le=1)


class Found(Answer):
    """What was found in one picture; what the model does not predict has no key."""

    prediction: ClassName | Absent = None
    probabilities: Probabilities | Absent = None
    view_position: str | None = Field(None, description="As the file says; null if it does not.")
    photometric_check: str | None = Field(None, description="What the picture says of the polarity its tag gives.")
    oddities: list[Oddity] | Absent = Field(None, description="In what the file contradicts itself.")
    saliency: Saliency | Absent = None
    grad_cam: GradCam | Absent = None
    picture: Picture | Absent = None


class Prediction(Found):
    """The answer to one picture."""

    model: ModelDescription
    profile: str = Field(description="The model's profile.")
    intended_use: str


class Row(Found):
    """What became of one file of a batch."""

    index: int = Field(ge=0, description="Place of the file among the form's files, from 0 on.")
    status: Status
    reason_code: Reason | None = Field(description="Why it was not scored; null if it was.")
    detail: str | Absent = Field(None, description="One sentence on the reason.")


class Batch(Answer):
    """One row for each file of the form, in the form's order."""

    model: ModelDescription
    rows: list[Row]
    intended_use: str


_AFFINE = Affine(0.25, 0.25, 0.0, 0.0, 2560, 2048)
_MODEL = {
    "name": "cxrgaze", "version": "v0007", "weights_sha256": "9f" * 32, "trained": True, "profile": "cxrgaze-v1",
    "engine": "reference-float32-cpu", "predicts": ["classes", "saliency"],
    "classes": ["normal", "heart_failure", "pneumonia"], "grad_cam": True, "intended_use": RESEARCH_ONLY,
}  # fmt: skip
_FOUND = {
    "prediction": "pneumonia",
    "probabilities": {"normal": 0.06, "heart_failure": 0.11, "pneumonia": 0.83},
    "view_position": "PA",
    "photometric_check": "agrees",
    "oddities": [],
    "saliency": {"png_base64": "iVBORw0KGgo=", "peak": 0.000051, "affine": _AFFINE},
}

EXAMPLES: dict[type[Answer], list[Any]] = {
    Health: [{"status": "ok"}],
    ModelDescription: [_MODEL],
    Prediction: [{**_FOUND, "model": _MODEL, "profile": "cxrgaze-v1", "intended_use": RESEARCH_ONLY}],
    GradCam: [{"png_base64": "iVBORw0KGgo=", "target": "pneumonia", "affine": _AFFINE, "meaning": CAM_MEANING}],
    Batch: [
        {
            "model": _MODEL,
            "rows": [
                {"index": 0, "status": "scored", "reason_code": None, **_FOUND},
                {"index": 1, "status": "skipped", "reason_code": "lateral_view", "detail": "The view is LL."},
            ],
            "intended_use": RESEARCH_ONLY,
        }
    ],
}
"""An answer of each kind, as JSON has it but for the affine; the document shows them."""


def example(kind: type[Answer]) -> Any:
    """Return the example of a kind of answer, checked and as JSON has it."""
    (one,) = EXAMPLES[kind]
    return kind.model_validate(one).model_dump(mode="json", exclude_unset=True)
