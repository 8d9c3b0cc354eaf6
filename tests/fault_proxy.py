"""An HTTP proxy in front of the S3 server that breaks what it is told to break, as networks and stores do.

::

    with FaultProxy(server.endpoint) as proxy:
        rule = proxy.add(Fault("slow_down", method="PUT", key=r"/results/", times=3))
        ...  # work against proxy.endpoint
        assert rule.hits == 3

Requests are forwarded byte for byte with their own Host header, so signatures hold.
"""

from __future__ import annotations

import os
import random
import re
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

Kind = Literal[
    "error_500",  # InternalError
    "unavailable",  # 503 from a gateway, without XML
    "slow_down",  # 503 SlowDown
    "too_many",  # 429
    "timeout",  # silence for `seconds`, then the connection is closed
    "truncated",  # the reply's Content-Length is whole, its body is not
    "short_xml",  # the reply's XML ends early, and its Content-Length agrees
    "reset",  # before the request is forwarded
    "lost_reply",  # after the request was forwarded: it took effect
    "expired",  # 403 ExpiredToken
    "not_implemented",  # 501
]
_ERRORS = {
    "error_500": (500, "InternalError"),
    "unavailable": (503, ""),
    "slow_down": (503, "SlowDown"),
    "too_many": (429, "TooManyRequests"),
    "expired": (403, "ExpiredToken"),
    "not_implemented": (501, "NotImplemented"),
}
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_UPSTREAM_S = 60.0


@dataclass(eq=False)
class Fault:
    """What to break: requests whose method and path match, some of them or all.

    `key` is searched in the decoded path with its query, ``/bucket/key?query``.
    """

    kind: Kind
    method: str = ""
    """One method, or any."""
    key: str = ""
    probability: float = 1.0
    times: int | None = None
    """The next so many matches; None for all."""
    skip: int = 0
    """Matches to let pass first."""
    seconds: float = 1.0
    hits: int = 0
    seen: int = 0

    def strikes(self, method: str, path: str, chance: random.Random) -> bool:
        """Say whether it befalls this request, and count it."""
        if (self.method and self.method != method) or not re.search(self.key, unquote(path)):
            return False
        self.seen += 1
        spent = self.times is not None and self.hits >= self.times
        if self.seen <= self.skip or spent or chance.random() >= self.probability:
            return False
        self.hits += 1
        return True


@dataclass(frozen=True)
class Request:
    """What went over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    fault: str | None


@dataclass
class _State:
    """What the threads of a proxy share."""

    host: str
    port: int
    chance: random.Random
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def judge(self, method: str, path: str, headers: dict[str, str]) -> Fault | None:
        with self.lock:
            fault = next((one for one in self.faults if one.strikes(method, path, self.chance)), None)
            self.requests.append(Request(method, path, headers, fault.kind if fault else None))
            return fault


class FaultProxy:
    """Listens on a free port of 127.0.0.1 while entered.

    Parameters
    ----------
    upstream
        ``http://host:port`` of the real server; it may go away and come back meanwhile (a 502 without XML, then).
    seed
        Of the faults' probabilities.
    tls
        If given, the proxy speaks TLS to its clients.
    """

    def __init__(self, upstream: str, seed: int = 0, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(upstream)
        self._state = _State(parts.hostname or "", parts.port or 80, random.Random(seed))
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.state, self._server.tls = self._state, tls
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._state.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, fault: Fault) -> Fault:
        """Break requests from now on; of several faults that match, the first one added acts."""
        with self._state.lock:
            self._state.faults.append(fault)
        return fault

    def clear(self) -> None:
        """Heal, and forget the requests seen."""
        with self._state.lock:
            self._state.faults.clear()
            self._state.requests.clear()

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests seen since the start or `clear`, in order."""
        with self._state.lock:
            return tuple(self._state.requests)

    @property
    def counts(self) -> Counter[str]:
        """How often each kind of fault struck; requests left alone count as ``forwarded``."""
        return Counter(request.fault or "forwarded" for request in self.requests)


class SecureServer(ThreadingHTTPServer):
    """A server for many clients, over TLS if its `tls` is set."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    tls: ssl.SSLContext | None

    def get_request(self) -> tuple[socket.socket, object]:
        """Leave the handshake to the first read, in the request's own thread: who refuses it holds up nobody."""
        connection, address = super().get_request()
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away are the point."""


def read_body(request: BaseHTTPRequestHandler) -> bytes:
    """Return a request's body, in whatever way it is sent."""
    if request.headers.get("Transfer-Encoding", "").lower() == "chunked":
        return b"".join(_chunks(request))
    return request.rfile.read(int(request.headers.get("Content-Length") or 0))


def _chunks(request: BaseHTTPRequestHandler) -> Iterator[bytes]:
    while size := int(request.rfile.readline().split(b";")[0], 16):
        yield request.rfile.read(size)
        request.rfile.readline()
    while request.rfile.readline().strip():
        pass


class _Server(SecureServer):
    state: _State


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = _UPSTREAM_S

    def _serve(self) -> None:
        state = self.server.state
        body = read_body(self)
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = state.judge(self.command, self.path, headers)
        kind = fault.kind if fault else None
        if kind == "reset":
            return self._reset()
        if kind == "timeout":
            state.stopped.wait(fault.seconds if fault else 0)
            return self._hang_up()
        if kind in _ERRORS:
            return self._answer_error(*_ERRORS[kind])
        try:
            reply, data = self._ask(body)
        except (OSError, HTTPException):
            return self._answer_error(502, "")
        if kind == "lost_reply":
            return self._reset()
        return self._relay(reply, data, kind)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""

    def _ask(self, body: bytes) -> tuple[HTTPResponse, bytes]:
        """Forward the request as it came, Host included, over a connection of its own."""
        state = self.server.state
        upstream = HTTPConnection(state.host, state.port, timeout=_UPSTREAM_S)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP | {"expect"}:
                    upstream.putheader(name, value)
            if body or self.command in {"PUT", "POST"}:
                upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body or None)
            reply = upstream.getresponse()
            return reply, reply.read()
        finally:
            upstream.close()

    def _relay(self, reply: HTTPResponse, data: bytes, kind: str | None) -> None:
        whole = reply.headers.get("Content-Length") if self.command == "HEAD" else len(data)
        if kind == "short_xml" and "xml" in reply.headers.get("Content-Type", ""):
            data = data[: len(data) // 2]
            whole = len(data)
        self.send_response_only(reply.status, reply.reason)
        for name, value in reply.headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        if whole is not None and reply.status != 204:
            self.send_header("Content-Length", str(whole))
        self.end_headers()
        if kind == "truncated":
            self.wfile.write(data[: len(data) // 2])
            return self._hang_up()
        if self.command != "HEAD":
            self.wfile.write(data)
        return None

    def _answer_error(self, status: int, code: str) -> None:
        xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>planted</Message></Error>" if code else ""
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml" if code else "text/plain")
        self.send_header("Content-Length", str(len(xml)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(xml.encode())

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def _reset(self) -> None:
        """Close with what was not sent thrown away: the client reads ECONNRESET."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # under the file objects that still hold the socket, and without the farewell of a shutdown
            os.close(self.connection.detach())
