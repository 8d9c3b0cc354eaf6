"""A dashboard on this machine that answers as Ray's does: for tests of what asks it, which need no cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "0123456789abcdef0123456789abcdef"

NODE = {
    "node_ip": "127.0.0.1",
    "is_head_node": True,
    "state": "ALIVE",
    "resources_total": {"CPU": 4.0, "memory": 2e9, "object_store_memory": 6e8},
    "labels": {"cxrgaze": "0.1.0"},
}


class DashboardHere:
    """What a dashboard says, and what it was asked.

    Attributes
    ----------
    answers
        JSON by path; a whole number is a status without any, a text a redirection.
    asked
        Method and path of every request with the token.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.url = ""
        usage = {"CPU": [1.0, 4.0], "memory": [0.0, 2e9]}
        self.answers: dict[str, Any] = {
            "/api/version": {"ray_version": "2.60.0", "session_name": "session-1"},
            "/api/v0/nodes?detail=1": {"data": {"result": {"result": [NODE]}}},
            "/api/cluster_status": {"data": {"clusterStatus": {"loadMetricsReport": {"usage": usage}}}},
            "/api/jobs/": [],
        }


@contextmanager
def dashboard_here() -> Iterator[DashboardHere]:
    """Serve a dashboard while a block runs."""
    here = DashboardHere()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._send(403 if self.headers.get("Authorization") else 401, b"")
                return
            here.asked.append((self.command, self.path))
            answer = here.answers.get(self.path, 404)
            if isinstance(answer, str):
                self.send_response(302)
                self.send_header("Location", answer)
                self.end_headers()
            elif isinstance(answer, bytes):
                self._send(200, answer)
            else:
                status, body = (answer, b"") if isinstance(answer, int) else (200, json.dumps(answer).encode())
                self._send(status, body)

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield here
        finally:
            server.shutdown()
            thread.join()
