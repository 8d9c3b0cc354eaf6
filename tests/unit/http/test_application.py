"""How an application refuses, and how its health is waited for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cxrgaze_ray.http.application import HEALTHY, wait_healthy
from cxrgaze_ray.http.refusals import refuse


class Waking(BaseHTTPRequestHandler):
    """Refuses the first question, and is healthy from then on."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        reply = HEALTHY if type(self).asked > 1 and self.path == "/m/healthz" else refuse(503, "Not yet.", "not_ready")
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


def test_health_is_waited_for_until_it_is_there(waking: str) -> None:
    headers = wait_healthy(waking, 30.0)
    assert headers is not None
    assert headers["X-Mark"] == "1"
    assert Waking.asked == 2


def test_who_does_not_answer_in_time_is_not_healthy() -> None:
    assert wait_healthy("http://127.0.0.1:9", 0.1) is None  # the discard port, where nobody listens


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
