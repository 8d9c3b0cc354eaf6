"""Traces: off unless asked for, and silent about what clients and files say."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cxrgaze_ray.cluster.tracing import tracing_hook
from cxrgaze_ray.config.environment import TRACES_VARIABLE
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.telemetry import traces
from cxrgaze_ray.telemetry.traces import ATTRIBUTES, check_traces, reticent, trace_requests
from tests.fault_proxy import read_body

CANARY = "QUENTIN-CANARY"

SPAN = (
    "from cxrgaze_ray.telemetry.traces import start_tracing; start_tracing();"
    "from opentelemetry import trace;"
    "span = trace.get_tracer('t').start_span('decode ray.remote_worker', attributes={'ray.pid': '7', 'path': 'x'});"
    "span.end(); trace.get_tracer_provider().shutdown()"
)
"""A program that makes a span."""


@pytest.fixture
def spans() -> Iterator[tuple[InMemorySpanExporter, TracerProvider]]:
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(reticent()(memory)))
    yield memory, provider
    provider.shutdown()


def test_a_request_leaves_its_method_route_and_code_and_no_words_of_the_client(
    spans: tuple[InMemorySpanExporter, TracerProvider],
) -> None:
    memory, provider = spans
    api = FastAPI()

    @api.get("/v1/retrain/{name}")
    def found(name: str) -> dict[str, str]:
        raise ValueError(name)

    FastAPIInstrumentor.instrument_app(api, tracer_provider=provider)

    async def ask() -> None:
        transport = httpx.ASGITransport(api, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            for path in (f"/v1/retrain/{CANARY}", f"/{CANARY}"):
                await client.get(path, params={"q": CANARY}, headers={"User-Agent": CANARY})

    asyncio.run(ask())
    told = [json.loads(span.to_json()) for span in memory.get_finished_spans()]
    assert {"GET /v1/retrain/{name}", "GET other"} <= {span["name"] for span in told}
    assert CANARY not in json.dumps(told)
    assert all(set(span["attributes"]) <= ATTRIBUTES for span in told)
    assert all(not span["events"] for span in told), "an exception's message is an event"


def test_nothing_is_traced_or_loaded_unless_asked_for() -> None:
    program = (
        "import sys; from fastapi import FastAPI; from cxrgaze_ray.telemetry.traces import *;"
        "check_traces(); start_tracing(); api = FastAPI(); trace_requests(api);"
        "heavy = ('opentelemetry.sdk', 'opentelemetry.instrumentation');"
        "print([name for name in sys.modules if name.startswith(heavy)], api.user_middleware)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[] []"


def test_spans_go_to_a_file_for_each_process(tmp_path: Path) -> None:
    environment = {"CXRGAZE_TRACES": str(tmp_path / "spans"), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", SPAN], env=environment, check=True, timeout=60)
    (file,) = (tmp_path / "spans").iterdir()
    (span,) = map(json.loads, file.read_text().splitlines())
    assert (span["name"], span["attributes"]) == ("decode ray.remote_worker", {"ray.pid": "7"})


def test_a_collector_gets_what_otlp_sends() -> None:
    with collector() as (endpoint, taken):
        environment = {"CXRGAZE_TRACES": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        subprocess.run(
            [sys.executable, "-c", SPAN], env={**environment, "PYTHONPATH": ":".join(sys.path)}, check=True, timeout=60
        )
    ((path, body),) = taken
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert ("service.name", "cxrgaze") in {(one.key, one.value.string_value) for one in resource.resource.attributes}
    (span,) = resource.scope_spans[0].spans
    assert (span.name, [one.key for one in span.attributes]) == ("decode ray.remote_worker", ["ray.pid"])


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Take what is posted while the block runs: give the endpoint, and paths with bodies."""
    taken: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = read_body(self)
            taken.append((self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", taken
        finally:
            server.shutdown()
            thread.join()


def test_clusters_are_started_with_the_hook_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The room of clusters does not import telemetry's: both have the variable's name, and Ray the hook's as text."""
    monkeypatch.delenv(TRACES_VARIABLE, raising=False)
    assert tracing_hook() is None
    monkeypatch.setenv(TRACES_VARIABLE, "otlp")
    module, function = str(tracing_hook()).split(":")
    assert getattr(import_module(module), function) is traces.start_tracing


@pytest.mark.parametrize("given", ["on", "./spans", "http://127.0.0.1:4318"])
def test_what_is_neither_otlp_nor_a_folder_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(TRACES_VARIABLE, given)
    with pytest.raises(ConfigError, match="CXRGAZE_TRACES"):
        check_traces()


def test_who_asks_for_traces_without_the_extra_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACES_VARIABLE, "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.fastapi", None)
    with pytest.raises(ConfigError, match="Tracing needs") as refused:
        check_traces()
    assert "cxrgaze[otel]" in refused.value.hint


def test_an_application_has_a_span_for_each_request_if_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(TRACES_VARIABLE, str(tmp_path))
    api = FastAPI()
    trace_requests(api)
    assert api._is_instrumented_by_opentelemetry  # type: ignore[attr-defined]
