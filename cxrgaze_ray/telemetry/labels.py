"""The labels of metrics, each with every value it may have: what Prometheus has to store is bounded, and names nobody.

A list that another room owns, such as the features of a monitor's report, is written here again, because that room
imports this one; `tests/unit/telemetry/test_labels.py` holds both together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

from cxrgaze_ray.schemas import CLASSES, Reason, Status

NONE, OTHER = "none", "other"


@dataclass(frozen=True, eq=False)
class Label:
    """A label and its values.

    Attributes
    ----------
    name
        Name of the label; labels of several metrics may share one and differ in their values.
    values
        Every value it may have.
    """

    name: str
    values: tuple[str, ...]
    allowed: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "allowed", frozenset(self.values))


JOB = Label("job", ("score", "ingest"))
USER = Label("job", ("score", "serve"))
WORK = Label("job", ("score", "ingest", "serve"))
RUN = Label("job", ("score", "ingest", "train"))
COMPUTED = Label("job", ("serve", "train"))
"""Jobs: who scores an archive and who answers requests share a model deployment, which is `serve`."""

STATUS = Label("status", tuple(map(str, Status)))
REASON = Label("reason", (*map(str, Reason), NONE))
PIPELINE_STAGE = Label("stage", ("fetch", "decode", "model", "commit", "finish"))
PROGRESS = Label("progress", ("planned", "done"))
QUEUE = Label("queue", ("proxy", "decoder", "model", "urgent_call", "batch_call", "shard", "commit"))
"""Where work waits: requests in the proxy, for a decoder and for the model; calls of requests and of batch jobs in a
replica; begun shards and commits in a driver."""

LANE = Label("lane", ("urgent", "batch"))
ENGINE = Label(
    "engine",
    (
        "reference-float32-cpu", "reference-float32-cuda", "openvino-bfloat16-cpu", "openvino-float32-cpu",
        "folded-float16-cuda", "fast-bfloat16-cpu", "fast-float32-cpu", "fast-bfloat16-cuda", "fast-float16-cuda",
    ),
)  # fmt: skip
DEVICE = Label("device", ("cpu", "cuda"))
MEMORY = Label("memory", ("process", "used", "total"))
"""What this process holds, what all do, and what there is."""

STORE = Label("store", ("folder", "s3"))
DIRECTION = Label("direction", ("read", "write"))
OUTCOME = Label("outcome", ("again", "gave_up"))

ROUTE = Label("route", ("/v1/predict", "/v1/predict/batch", "/v1/model", "/healthz", "/readyz", "/openapi.json", OTHER))
CODE = Label(
    "code",
    (
        "200", "400", "401", "404", "405", "406", "408", "409", "413", "415", "422", "429", "431", "500", "503",
        "1xx", "2xx", "3xx", "4xx", "5xx",
    ),
)  # fmt: skip
"""Codes that our applications answer with, and classes for all others."""

TRAINING_STAGE = Label("stage", ("contrastive", "encoder", "saliency", "classifier", "joint", "diagnosis"))
SPLIT = Label("split", ("train", "validation"))

FAMILY = Label("family", ("acquisition", "intensity", "scores", "predictions", "saliency", "outcomes", "performance"))
FEATURE = Label(
    "feature",
    (
        "view_position", "manufacturer", "device_model", "bits_stored", "photometric", "transfer_syntax", "sex",
        "age_band", "rows", "columns", "intensity_p1", "intensity_p50", "intensity_p99", "intensity_mean",
        *(f"p_{name}" for name in CLASSES), "p_highest", "prediction", "entropy", "centre_y", "centre_x",
        "central_mass", "status=failed", "status=skipped", *(f"reason_code={reason}" for reason in Reason),
        "photometric_check=disagrees", "view_source=unknown", "auc_macro", "ece", "cc", "kl", "hs",
    ),
)  # fmt: skip
DRIFT = Label("drift", ("exposure", "polarity", "site", "prevalence", "quality", "performance", "unknown"))
SIDE = Label("side", ("baseline", "current"))

WEBHOOK_STATE = Label("state", ("pending", "running", "done", "rejected", "cannot_tell", "ask", "stopped", "failed"))
RETRAINING_STATE = Label(
    "state", ("running", "wait", "ask", "accepted", "rejected", "cannot_tell", "stopped", "failed")
)
CRITERION = Label(
    "criterion",
    (
        "auc_macro", "auc_normal", "auc_heart_failure", "auc_pneumonia", "accuracy", "ece", "cc", "hs", "nss", "sauc",
        "centre_bias", "answers", "patients", "golden outputs", "latency ratio", "size in MiB", "looks",
    ),
)  # fmt: skip
MODEL = Label("model", ("champion", "candidate", "baseline"))
VERDICT = Label("verdict", ("pass", "fail", "cannot_tell", "not_applicable"))


def code_label(code: int) -> str:
    """Return the value of label ``code`` for an HTTP status."""
    text = str(int(code))
    if text in CODE.allowed:
        return text
    return f"{code // 100}xx" if HTTPStatus.CONTINUE <= code < 600 else "5xx"
