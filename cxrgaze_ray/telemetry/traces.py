"""OpenTelemetry's traces, if CXRGAZE_TRACES asks for them: tasks and actors by Ray's hook, requests by FastAPI's.

What leaves a process is a closed list of attributes: a span's events and its status hold messages of exceptions, and a
path a client's words, so none of these does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrgaze_ray.config import check_extra
from cxrgaze_ray.config.environment import TRACES_VARIABLE
from cxrgaze_ray.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

ATTRIBUTES = frozenset(
    {
        "ray.remote", "ray.function", "ray.pid", "ray.job_id", "ray.node_id", "ray.task_id", "ray.worker_id",
        "ray.actor_id", "http.method", "http.route", "http.status_code", "http.request.method",
        "http.response.status_code",
    }
)  # fmt: skip
"""Attributes that leave a process; none of them holds what a client or a file says."""

_EVERY_MS = 1000.0
_SERVICE = "cxrgaze"


def traced() -> str:
    """Return where spans go, ``otlp`` or a folder; "" where TRACES_VARIABLE does not ask for them."""
    return os.environ.get(TRACES_VARIABLE, "")


def check_traces() -> None:
    """Raise ConfigError if traces are asked for, and can't be made or put there."""
    if not (where := traced()):
        return
    check_extra("otel")
    if where != "otlp" and not Path(where).is_absolute():
        raise ConfigError(
            f"{TRACES_VARIABLE} is {where!r}, neither otlp nor the absolute path of a folder.", "Set it to one of both."
        )


def start_tracing() -> None:
    """Make spans from now on. Ray calls this in each of its processes, on a cluster that was started with this hook."""
    if not traced():
        return
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": _SERVICE}))
    exporter = reticent()(_exporter(traced()))
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EVERY_MS))
    trace.set_tracer_provider(provider)


def trace_requests(api: Any) -> None:
    """Have a FastAPI application make a span of every request but those to its health checks, if that is asked for."""
    if not traced():
        return
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor.instrument_app(api, excluded_urls="healthz,readyz", exclude_spans=["receive", "send"])


def _exporter(where: str) -> SpanExporter:
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    if where == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    folder = Path(where)
    folder.mkdir(parents=True, exist_ok=True)
    out = (folder / f"spans-{os.getpid()}.jsonl").open("a", buffering=1)
    return ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\n")


@cache
def reticent() -> type[Any]:
    """Return the exporter that keeps to itself what is not in `ATTRIBUTES`, and hands the rest to another one.

    It is made here, for its base class is not loaded where nobody asks for traces.
    """
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Reticent(SpanExporter):
        def __init__(self, inner: SpanExporter) -> None:
            self._inner = inner

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return self._inner.export([shortened(span) for span in spans])

        def shutdown(self) -> None:
            self._inner.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return self._inner.force_flush(timeout_millis)

    return Reticent


def shortened(span: ReadableSpan) -> ReadableSpan:
    """Return a span without events, links' attributes, messages, and attributes that are not in `ATTRIBUTES`."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Status

    known = {name: value for name, value in (span.attributes or {}).items() if name in ATTRIBUTES}
    return ReadableSpan(
        name=_name(span.name, known),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=known,
        kind=span.kind,
        instrumentation_scope=span.instrumentation_scope,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
    )


def _name(name: str, known: dict[str, Any]) -> str:
    """Return a span's name; a request's is of its method and route, for without a route its own has the path."""
    method = known.get("http.request.method") or known.get("http.method")
    return name if method is None else f"{method} {known.get('http.route', 'other')}"
