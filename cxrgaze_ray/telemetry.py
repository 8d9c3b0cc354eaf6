"""Every metric in one table. Labels are closed: statuses, reasons, stages and versions, never identifiers.

Inside a Ray process the values go to Ray's metrics endpoint (``ray.util.metrics``), where Prometheus scrapes them
as ``ray_<name>`` with ``_total`` added to counters; elsewhere `record` does nothing. Monitoring and retraining
expose gauges of their own under names from this table: see `lifecycle.prometheus`.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal


@dataclass(frozen=True)
class Metric:
    """One entry of the table: name, kind, meaning, unit where there is one, and the labels it carries."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    description: str
    labels: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()


_AGAIN_S = 0.5
"""Seconds after which gauges are set again: less than between exports of the metrics."""

_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

IMAGES = Metric("cxrgaze_images", "counter", "Inputs finished.", ("job", "status", "reason"))
DECODE_SECONDS = Metric("cxrgaze_decode_seconds", "histogram", "Time from bytes to model image.", ("job",), _SECONDS)
MODEL_SECONDS = Metric("cxrgaze_model_seconds", "histogram", "Forward pass of one chunk.", ("bundle",), _SECONDS)
MODEL_BATCH = Metric(
    "cxrgaze_model_batch_images", "gauge", "Images that a replica computes at a time; less where memory was short.",
    ("bundle",),
)  # fmt: skip
SHARD_COMMITS = Metric("cxrgaze_shard_commits", "counter", "Shards committed.", ("job",))
SHARDS_LEFT = Metric("cxrgaze_shards_left", "gauge", "Shards that a running driver has yet to commit.", ("job",))
REQUESTS = Metric("cxrgaze_http_requests", "counter", "HTTP requests answered.", ("route", "code"))
REQUEST_SECONDS = Metric("cxrgaze_http_request_seconds", "histogram", "Time to an HTTP answer.", ("route",), _SECONDS)
TRAINING_LOSS = Metric("cxrgaze_training_loss", "gauge", "Mean loss of the last epoch.", ("stage", "split"))
TRAINING_EPOCH = Metric("cxrgaze_training_epoch", "gauge", "Epochs finished.", ("stage",))
WEBHOOK_REQUESTS = Metric("cxrgaze_webhook_requests", "counter", "Requests to the webhook answered.", ("code",))
WEBHOOK_TRIGGER = Metric("cxrgaze_webhook_trigger_time_seconds", "gauge", "Unix time of the last accepted trigger.")
WEBHOOK_RETRAINING = Metric(
    "cxrgaze_webhook_retraining", "gauge", "1 for the state of the last trigger's job, else 0.", ("state",)
)

_FEATURE = ("family", "feature")
DRIFT_EFFECT = Metric("cxrgaze_drift_effect", "gauge", "Effect of the last comparison: PSI or difference.", _FEATURE)
DRIFT_THRESHOLD = Metric("cxrgaze_drift_threshold", "gauge", "Least effect that is worth an alert.", _FEATURE)
DRIFT_ALERT = Metric("cxrgaze_drift_alert", "gauge", "1 if the effect is beyond threshold and noise.", _FEATURE)
DRIFT_SUSPECTED = Metric("cxrgaze_drift_suspected", "gauge", "1 if the alerts look like this drift.", ("drift",))
MONITOR_IMAGES = Metric("cxrgaze_monitor_images", "gauge", "Images that were compared.", ("side", "status"))
MONITOR_AUC = Metric("cxrgaze_monitor_auc", "gauge", "Macro AUC of images whose label has arrived.", ("side",))
MONITOR_TIME_SECONDS = Metric("cxrgaze_monitor_time_seconds", "gauge", "Unix time of the last comparison.")

RETRAINING = Metric("cxrgaze_retraining", "gauge", "1 for the state of the last retraining, else 0.", ("state",))
RETRAINING_PROMOTED = Metric("cxrgaze_retraining_promoted", "gauge", "1 if the last candidate is in service.")
RETRAINING_SECONDS = Metric("cxrgaze_retraining_seconds", "gauge", "Seconds that the last retraining has taken.")
RETRAINING_TIME_SECONDS = Metric("cxrgaze_retraining_time_seconds", "gauge", "Unix time of the last change of state.")
GATE_VALUE = Metric("cxrgaze_gate_value", "gauge", "Value a model reached in the last gate.", ("criterion", "model"))
GATE_CRITERIA = Metric("cxrgaze_gate_criteria", "gauge", "Criteria of the last gate by verdict.", ("verdict",))

TABLE = (
    IMAGES,
    DECODE_SECONDS,
    MODEL_SECONDS,
    MODEL_BATCH,
    SHARD_COMMITS,
    SHARDS_LEFT,
    REQUESTS,
    REQUEST_SECONDS,
    TRAINING_LOSS,
    TRAINING_EPOCH,
    DRIFT_EFFECT,
    DRIFT_THRESHOLD,
    DRIFT_ALERT,
    DRIFT_SUSPECTED,
    MONITOR_IMAGES,
    MONITOR_AUC,
    MONITOR_TIME_SECONDS,
    WEBHOOK_REQUESTS,
    WEBHOOK_TRIGGER,
    WEBHOOK_RETRAINING,
    RETRAINING,
    RETRAINING_PROMOTED,
    RETRAINING_SECONDS,
    RETRAINING_TIME_SECONDS,
    GATE_VALUE,
    GATE_CRITERIA,
)


def record(metric: Metric, value: float = 1.0, **labels: str) -> None:
    """Add to a counter, set a gauge or observe a histogram value.

    Raises
    ------
    ValueError
        If the labels are not exactly those of the table.
    """
    if set(labels) != set(metric.labels):
        raise ValueError(f"{metric.name} takes the labels {metric.labels}, not {tuple(labels)}")
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    instrument = _instrument(metric)
    if metric.kind == "counter":
        instrument.inc(value, tags=labels)
    elif metric.kind == "gauge":
        _holder().hold(instrument, value, labels)
    else:
        instrument.observe(value, tags=labels)


class _Holder:
    """Sets every gauge again and again: Ray exports a value once, and a scrape would miss it afterwards."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[int, tuple[tuple[str, str], ...]], tuple[Any, float, dict[str, str]]] = {}
        threading.Thread(target=self._repeat, name="cxrgaze-gauges", daemon=True).start()

    def hold(self, instrument: Any, value: float, labels: dict[str, str]) -> None:
        with self._lock:
            self._values[id(instrument), tuple(sorted(labels.items()))] = (instrument, value, labels)
            instrument.set(value, tags=labels)

    def _repeat(self) -> None:
        while True:
            time.sleep(_AGAIN_S)
            ray = sys.modules.get("ray")
            with self._lock:
                for instrument, value, labels in self._values.values():
                    if ray is not None and ray.is_initialized():
                        instrument.set(value, tags=labels)


@cache
def _holder() -> _Holder:
    return _Holder()


@cache
def _instrument(metric: Metric) -> Any:
    from ray.util import metrics

    if metric.kind == "histogram":
        return metrics.Histogram(
            metric.name, metric.description, boundaries=list(metric.boundaries), tag_keys=metric.labels
        )
    kind = metrics.Counter if metric.kind == "counter" else metrics.Gauge
    return kind(metric.name, metric.description, tag_keys=metric.labels)
