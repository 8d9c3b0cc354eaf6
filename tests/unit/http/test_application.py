"""How an application refuses, and how its health is waited for."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from cxrgaze_ray.http.application import HEALTHY, make_application, wait_until_ready
from cxrgaze_ray.http.refusals import refuse
from tests.authority import make_authority


class Waking(BaseHTTPRequestHandler):
    """Refuses the first question, and is ready from then on."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        reply = HEALTHY if type(self).asked > 1 and self.path == "/m/readyz" else refuse(503, "Not yet.", "not_ready")
        self.send_response(reply.code)
        for name, value in (reply.headers | {"X-Mark": "1"}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps(reply.body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def waking() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Waking) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/m"
        server.shutdown()
        thread.join()


def test_readiness_is_waited_for(waking: str) -> None:
    headers = wait_until_ready(waking, 30.0)
    assert headers is not None
    assert headers["X-Mark"] == "1"
    assert Waking.asked == 2


def test_readiness_is_waited_for_over_tls_whoever_signed_it(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), Waking) as server:
        server.socket = make_authority(tmp_path).server.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        headers = wait_until_ready(f"https://127.0.0.1:{server.server_port}/m", 30.0)
        server.shutdown()
        thread.join()
    assert headers is not None


def test_who_does_not_answer_in_time_is_not_ready() -> None:
    assert wait_until_ready("http://127.0.0.1:9", 0.1) is None  # the discard port, where nobody listens


@pytest.mark.parametrize(
    ("code", "wait", "headers"),
    [
        (401, None, {"WWW-Authenticate": "Bearer"}),
        (413, None, {}),
        (429, 5400, {"Retry-After": "5400"}),
        (503, None, {"Retry-After": "2"}),
        (503, 30, {"Retry-After": "30"}),
    ],
)
def test_a_refusal_is_one_sentence_and_a_reason(code: int, wait: int | None, headers: dict[str, str]) -> None:
    response = refuse(code, "No.", "because", wait).response()
    assert (response.status_code, response.body) == (code, b'{"error":"No.","reason":"because"}')
    assert {name: response.headers[name] for name in headers} == headers
    assert len(response.headers) == len(headers) + 2  # of the body: its length and type


@pytest.mark.parametrize(
    ("method", "path", "code", "reason"),
    [("GET", "/v1/predct", 404, "not_found"), ("GET", "/v1/predict", 405, "method_not_allowed")],
)
def test_a_wrong_path_or_method_is_refused_with_the_routes_there_are(
    method: str, path: str, code: int, reason: str
) -> None:
    counted: list[tuple[str, int]] = []
    api = make_application("test", lambda path, code, _seconds: counted.append((path, code)))
    api.post("/v1/predict")(lambda: {})

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://x") as client:
            return await client.request(method, path)

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["reason"]) == (code, reason)
    assert "POST /v1/predict" in answer.json()["error"]
    assert [counted_code for _, counted_code in counted] == [code]
    assert answer.headers.get("allow") == ("POST" if code == 405 else None)
