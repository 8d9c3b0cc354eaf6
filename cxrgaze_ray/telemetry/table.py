"""Every metric, with kind, unit, labels and meaning. `docs/reference/metrics.md` is made of this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cxrgaze_ray.telemetry import labels
from cxrgaze_ray.telemetry.labels import Label

Unit = Literal[
    "seconds", "unix seconds", "bytes", "images", "images/s", "files", "shards", "requests", "calls", "epochs",
    "criteria", "number", "share", "yes or no", "1",
]  # fmt: skip
"""What a value counts or measures. ``1`` is a figure without a unit; ``number`` is one to compare, not to add."""


@dataclass(frozen=True, eq=False)
class Metric:
    """One entry of the table: name, kind, unit, meaning, the labels it carries, and a histogram's boundaries."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: Unit
    description: str
    labels: tuple[Label, ...] = ()
    boundaries: tuple[float, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in the table's order."""
        return tuple(label.name for label in self.labels)


_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LONG_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_REQUEST_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COUNTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

IMAGES = Metric("cxrgaze_images", "counter", "images", "Inputs finished.", (labels.JOB, labels.STATUS, labels.REASON))
STAGE_SECONDS = Metric(
    "cxrgaze_stage_seconds", "histogram", "seconds",
    "Time of one piece in a stage: fetch and decode of an image, model of a chunk or a request with what it waits for, "
    "commit of a shard, finish of a run.",
    (labels.WORK, labels.PIPELINE_STAGE), _LONG_SECONDS,
)  # fmt: skip
SHARD_COMMITS = Metric("cxrgaze_shard_commits", "counter", "shards", "Shards committed.", (labels.JOB,))
SHARDS_LEFT = Metric(
    "cxrgaze_shards_left", "gauge", "shards", "Shards that a running driver has yet to commit.", (labels.JOB,)
)
RUN_IMAGES = Metric(
    "cxrgaze_run_images", "gauge", "images", "Inputs of a driver's run: planned, and done so far.",
    (labels.JOB, labels.PROGRESS),
)  # fmt: skip
RUN_START_TIME = Metric(
    "cxrgaze_run_start_time_seconds", "gauge", "unix seconds", "When a driver began to work.", (labels.RUN,)
)
QUEUE_LENGTH = Metric(
    "cxrgaze_queue_length", "gauge", "number", "Pieces of work that wait or are under way at a place.", (labels.QUEUE,)
)
SERVING_READY = Metric(
    "cxrgaze_serving_ready", "gauge", "yes or no",
    "1 if an ingress replica has its model and a replica of the model answered it of late, else 0.",
)  # fmt: skip
MODEL_VERSION = Metric(
    "cxrgaze_model_version", "gauge", "number",
    "Version of the model in use, 3 for v0003; 0 for a bundle outside a registry.", (labels.USER,),
)  # fmt: skip

MODEL_SECONDS = Metric(
    "cxrgaze_model_seconds", "histogram", "seconds", "Forward pass of one call.", (labels.ENGINE,), _SECONDS
)
MODEL_CALL_IMAGES = Metric(
    "cxrgaze_model_call_images", "histogram", "images", "Images of one call.", (labels.LANE,), _COUNTS
)
MODEL_BATCH = Metric(
    "cxrgaze_model_batch_images", "gauge", "images",
    "Images that a replica computes at a time; less where memory was short.", (labels.ENGINE,),
)  # fmt: skip
DEVICE_BUSY = Metric(
    "cxrgaze_device_busy_seconds", "counter", "seconds", "Time in which a replica or a training computed.",
    (labels.COMPUTED, labels.DEVICE),
)  # fmt: skip
DEVICE_MEMORY = Metric(
    "cxrgaze_device_memory_bytes", "gauge", "bytes",
    "Memory of the device: held by this process, used by all, and in all.",
    (labels.COMPUTED, labels.DEVICE, labels.MEMORY),
)  # fmt: skip

STORE_BYTES = Metric(
    "cxrgaze_store_bytes", "counter", "bytes", "Contents of objects and files read and written.",
    (labels.STORE, labels.DIRECTION),
)  # fmt: skip
S3_REQUESTS = Metric("cxrgaze_s3_requests", "counter", "requests", "Requests to S3, each attempt counted.")
S3_RETRIES = Metric(
    "cxrgaze_s3_retries", "counter", "requests",
    "Requests to S3 that failed and may pass: made again, or given up with the budget spent.", (labels.OUTCOME,),
)  # fmt: skip

REQUESTS = Metric(
    "cxrgaze_http_requests", "counter", "requests", "HTTP requests answered.", (labels.ROUTE, labels.CODE)
)
REQUEST_SECONDS = Metric(
    "cxrgaze_http_request_seconds", "histogram", "seconds", "Time to an HTTP answer.", (labels.ROUTE, labels.CODE),
    _REQUEST_SECONDS,
)  # fmt: skip
REQUEST_FILES = Metric(
    "cxrgaze_http_request_files", "histogram", "files", "Files of one request to /v1/predict/batch.", (), _COUNTS
)
BODY_BYTES = Metric("cxrgaze_http_body_bytes", "gauge", "bytes", "Bytes of requests' bodies that the proxy holds.")

TRAINING_LOSS = Metric(
    "cxrgaze_training_loss", "gauge", "1", "Mean loss of the last epoch.", (labels.TRAINING_STAGE, labels.SPLIT)
)
TRAINING_EPOCH = Metric("cxrgaze_training_epoch", "gauge", "epochs", "Epochs finished.", (labels.TRAINING_STAGE,))
TRAINING_PROGRESS = Metric(
    "cxrgaze_training_progress_ratio", "gauge", "share", "Share of the epoch under way that is done.",
    (labels.TRAINING_STAGE, labels.SPLIT),
)  # fmt: skip
TRAINING_RATE = Metric(
    "cxrgaze_training_images_per_second", "gauge", "images/s", "Rate of the epoch under way.",
    (labels.TRAINING_STAGE, labels.SPLIT),
)  # fmt: skip
TRAINING_EPOCH_SECONDS = Metric(
    "cxrgaze_training_epoch_seconds", "gauge", "seconds", "Time that the last epoch took.", (labels.TRAINING_STAGE,)
)
TRAINING_WAITED = Metric(
    "cxrgaze_training_waited_ratio", "gauge", "share", "Share of the last epoch in which steps waited for images.",
    (labels.TRAINING_STAGE,),
)  # fmt: skip

WEBHOOK_REQUESTS = Metric(
    "cxrgaze_webhook_requests", "counter", "requests", "Requests to the webhook answered.", (labels.CODE,)
)
WEBHOOK_TRIGGER = Metric(
    "cxrgaze_webhook_trigger_time_seconds", "gauge", "unix seconds", "Time of the last accepted trigger."
)
WEBHOOK_RETRAINING = Metric(
    "cxrgaze_webhook_retraining", "gauge", "yes or no", "1 for the state of the last trigger's job, else 0.",
    (labels.WEBHOOK_STATE,),
)  # fmt: skip

_FEATURE = (labels.FAMILY, labels.FEATURE)
DRIFT_EFFECT = Metric(
    "cxrgaze_drift_effect", "gauge", "1", "Effect of the last comparison: PSI or difference.", _FEATURE
)
DRIFT_THRESHOLD = Metric("cxrgaze_drift_threshold", "gauge", "1", "Least effect that is worth an alert.", _FEATURE)
DRIFT_ALERT = Metric(
    "cxrgaze_drift_alert", "gauge", "yes or no", "1 if the effect is beyond threshold and noise.", _FEATURE
)
DRIFT_SUSPECTED = Metric(
    "cxrgaze_drift_suspected", "gauge", "yes or no", "1 if the alerts look like this drift.", (labels.DRIFT,)
)
MONITOR_IMAGES = Metric(
    "cxrgaze_monitor_images", "gauge", "images", "Images that were compared.", (labels.SIDE, labels.STATUS)
)
MONITOR_AUC = Metric(
    "cxrgaze_monitor_auc", "gauge", "share", "Macro AUC of images whose label has arrived.", (labels.SIDE,)
)
MONITOR_TIME_SECONDS = Metric("cxrgaze_monitor_time_seconds", "gauge", "unix seconds", "Time of the last comparison.")
MONITOR_RUN_TIME = Metric(
    "cxrgaze_monitor_run_time_seconds", "gauge", "unix seconds", "When the newest run compared was finished.",
    (labels.SIDE,),
)  # fmt: skip

RETRAINING = Metric(
    "cxrgaze_retraining", "gauge", "yes or no", "1 for the state of the last retraining, else 0.",
    (labels.RETRAINING_STATE,),
)  # fmt: skip
RETRAINING_PROMOTED = Metric(
    "cxrgaze_retraining_promoted", "gauge", "yes or no", "1 if the last candidate is in service."
)
RETRAINING_VERSION = Metric(
    "cxrgaze_retraining_candidate_version", "gauge", "number", "Version of the last candidate, 3 for v0003."
)
RETRAINING_SECONDS = Metric(
    "cxrgaze_retraining_seconds", "gauge", "seconds", "Seconds that the last retraining has taken."
)
RETRAINING_TIME_SECONDS = Metric(
    "cxrgaze_retraining_time_seconds", "gauge", "unix seconds", "Time of the last change of state."
)
GATE_VALUE = Metric(
    "cxrgaze_gate_value", "gauge", "1", "Value a model reached in the last gate.", (labels.CRITERION, labels.MODEL)
)
GATE_CRITERIA = Metric(
    "cxrgaze_gate_criteria", "gauge", "criteria", "Criteria of the last gate by verdict.", (labels.VERDICT,)
)

TABLE = tuple(one for one in dict(globals()).values() if isinstance(one, Metric))
"""Every metric, in this file's order."""
