"""Give values to Ray's metrics endpoint, where Prometheus scrapes them as ``ray_<name>``, counters with ``_total``.

In a process that is on no Ray cluster nothing is recorded, and Ray is not imported.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Any, Self

from cxrgaze_ray.telemetry.table import QUEUE_LENGTH, Metric

_AGAIN_S = 0.5
"""Seconds after which gauges are set again: less than between exports of the metrics."""


def check_labels(metric: Metric, given: dict[str, str]) -> None:
    """Raise ValueError if labels or their values are not those of the table. A refused value is not quoted."""
    for label in metric.labels:
        value = given.get(label.name)
        if value is None:
            raise ValueError(f"{metric.name} needs the label {label.name}")
        if value not in label.allowed:
            raise ValueError(f"a value of {metric.name}'s label {label.name} is none of the table's")
    if len(given) != len(metric.labels):
        raise ValueError(f"{metric.name} takes the labels {metric.label_names} and no others")


def record(metric: Metric, value: float = 1.0, **labels: str) -> None:
    """Add to a counter, set a gauge or observe a histogram value.

    Raises
    ------
    ValueError
        If the labels or their values are not those of the table.
    """
    if not _is_recorded(metric, labels):
        return
    instrument = _instrument(metric)
    if metric.kind == "counter":
        if value > 0:  # Ray refuses to add nothing
            instrument.inc(value, tags=labels)
    elif metric.kind == "gauge":
        _holder().hold(instrument, value, labels)
    else:
        instrument.observe(value, tags=labels)


def begin(counter: Metric, **labels: str) -> None:
    """Show a counter as 0 before it has counted: Prometheus's rates leave out what a series begins with.

    Raises
    ------
    ValueError
        If the labels or their values are not those of the table.
    """
    if _is_recorded(counter, labels):
        _instrument(counter)._record(0.0, tags=labels)  # `inc` refuses to add nothing


def _is_recorded(metric: Metric, labels: dict[str, str]) -> bool:
    """Check the labels, and return whether this process is on a cluster, which is where metrics are shown."""
    check_labels(metric, labels)
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@contextmanager
def timed(metric: Metric, **labels: str) -> Iterator[None]:
    """Observe the seconds that the block takes, however it ends."""
    began = time.perf_counter()
    try:
        yield
    finally:
        record(metric, time.perf_counter() - began, **labels)


class Waiting:
    """Counts who is inside its blocks, as the length of a queue.

    It is for one event loop, not for threads.

    Parameters
    ----------
    queue
        A value of `labels.QUEUE`.
    """

    def __init__(self, queue: str) -> None:
        self._queue, self._inside = queue, 0

    def __enter__(self) -> Self:
        self._count(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count(-1)

    def _count(self, step: int) -> None:
        self._inside += step
        record(QUEUE_LENGTH, self._inside, queue=self._queue)


class _Holder:
    """Sets every gauge again and again: Ray exports a value once, and a scrape would miss it afterwards."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[int, tuple[str, ...]], tuple[Any, float, dict[str, str]]] = {}
        threading.Thread(target=self._repeat, name="cxrgaze-gauges", daemon=True).start()

    def hold(self, instrument: Any, value: float, labels: dict[str, str]) -> None:
        key = id(instrument), tuple(labels[name] for name in sorted(labels))
        with self._lock:
            self._values[key] = (instrument, value, labels)
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
            metric.name, metric.description, boundaries=list(metric.boundaries), tag_keys=metric.label_names
        )
    kind = metrics.Counter if metric.kind == "counter" else metrics.Gauge
    return kind(metric.name, metric.description, tag_keys=metric.label_names)
