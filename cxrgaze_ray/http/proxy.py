"""The layer before every application in Ray Serve's HTTP proxy: bodies bounded in time and memory, answers as JSON.

Serve's proxy reads a body however slowly it comes and hands each part on, without any bound; it answers a request that
is shed, or lost with its replica, in plain text or as a bug. Ray calls `middlewares` in the proxies of a cluster whose
nodes have `cluster.PROXY_VARIABLE` in their environment, as those of a private one do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from dataclasses import dataclass, replace
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxrgaze_ray import telemetry
from cxrgaze_ray.cluster.allocator import return_freed_memory
from cxrgaze_ray.http import connection
from cxrgaze_ray.http.body_room import Room, Share
from cxrgaze_ray.http.clients import Buckets, client_of
from cxrgaze_ray.http.line import Line, Pace
from cxrgaze_ray.http.middleware import count_request
from cxrgaze_ray.http.refusals import Reply, refuse
from cxrgaze_ray.telemetry.logs import request_id_of, start_logging
from cxrgaze_ray.telemetry.table import BODY_BYTES

MARK = "x-cxrgaze-proxy"
"""Header of every answer that came through here: it tells the starter of an application that bodies are bounded."""

RATE_VARIABLE = "CXRGAZE_CLIENT_RATE"
"""Environment variable of a node that sets `ProxyLimits.client_rate`, for gateways that send for many."""

_LOG = logging.getLogger("ray.serve")

_PROBES = ("/healthz", "/readyz")
"""Routes that are answered however many requests wait."""


@dataclass(frozen=True)
class ProxyLimits:
    """The limits of one proxy.

    Attributes
    ----------
    requests
        Most requests at once, waiting ones included; more are told to come back, or the slowest is if it is behind.
        Health checks always pass.
    held_bytes
        Bytes of all bodies together, each from its first byte to its answer.
    header_bytes
        Most bytes of one request's headers.
    deadline_s
        Longest time to wait for one body's bytes in all; waiting for room does not count.
    grace_s, floor_bytes_s
        Seconds after which a body must have come at the given rate, and that rate.
    press_grace_s, press_bytes_s
        A body silent for so long, or slower than this, gives way if its place is needed, or its room by a quicker one.
    client_rate, client_burst
        Requests that one client of another machine may make a second in the long run, and at once; 0 sets no limit.
    wrong_rate, wrong_burst
        The same of requests without the right token: who has used them up is not let in, right token or not.
    linger_s, linger_bytes
        Seconds and bytes for which the rest of a body is read and dropped once its request is answered, so that the
        client gets to read the answer; then the connection is closed.
    """

    requests: int = 512
    held_bytes: int = 256 * 2**20
    header_bytes: int = 64 * 2**10
    deadline_s: float = 120.0
    grace_s: float = 10.0
    floor_bytes_s: float = 64 * 2**10
    press_grace_s: float = 1.0
    press_bytes_s: float = 256 * 2**10
    client_rate: float = 50.0
    client_burst: float = 500.0
    wrong_rate: float = 1 / 6
    wrong_burst: float = 20.0
    linger_s: float = 2.0
    linger_bytes: int = 16 * 2**20


def _closing(refusal: Reply) -> Reply:
    return replace(refusal, headers={**refusal.headers, "Connection": "close"})


_BUSY = refuse(503, "Too many requests are waiting; try again.", "busy")
_LOST = refuse(503, "The process that had this request is gone, or too busy; try again.", "unavailable")
_LATE = _closing(refuse(408, "The body came too slowly.", "too_slow"))
_CROWDED = _closing(refuse(503, "The body came slowly, and others needed its place; try again.", "busy"))
_HIDDEN = refuse(404, "There is no such path.", "not_found")
_OFTEN = "Too many requests from this client; try again later."
_GUESSES = "Too many requests without the right token from this client; try again later."


def middlewares() -> list[Middleware]:
    """Return the middlewares for Ray Serve's proxy, in whose process this is called before its server is made."""
    return_freed_memory()
    connection.install()
    start_logging()
    return [Middleware(Door, limits=ProxyLimits(client_rate=_client_rate()))]


def _client_rate() -> float:
    """Return the rate that the node's environment sets; what is no number from 0 on is told, and the default holds."""
    given = os.environ.get(RATE_VARIABLE, "")
    with contextlib.suppress(ValueError):
        if 0 <= (rate := float(given)) < math.inf:
            return rate
    if given:
        _LOG.error(
            "%s is no number from 0 on; the limit is %g requests a second", RATE_VARIABLE, ProxyLimits.client_rate
        )
    return ProxyLimits.client_rate


class Door:
    """Wraps an ASGI application; see `ProxyLimits`."""

    def __init__(self, app: ASGIApp, limits: ProxyLimits | None = None) -> None:
        self._app, self._limits = app, limits or ProxyLimits()
        self._room, self._line = Room(self._limits.held_bytes), Line(self._limits.requests)
        self._asked = Buckets(self._limits.client_rate, self._limits.client_burst)
        self._waiting = telemetry.Waiting("proxy")
        self._wrong = Buckets(self._limits.wrong_rate, self._limits.wrong_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        _keep_only_uuids(scope)
        answer = _Answer(scope, receive, send, self._limits)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > self._limits.header_bytes:
            await answer.refuse(connection.LONG_HEADERS)
        elif scope["path"].endswith(_PROBES):
            await self._pass(scope, receive, answer)
        elif _is_hidden(scope):
            await answer.refuse(_HIDDEN)
        elif refusal := self._too_often(scope):
            await answer.refuse(refusal)
        elif not self._line.has_place():
            await answer.refuse(_BUSY)
        else:
            await self._pass(scope, receive, answer)
        client = _client(scope)
        if answer.code == 401 and client is not None:
            self._wrong.take(client)

    def _too_often(self, scope: Scope) -> Reply | None:
        client = _client(scope)
        if client is None:
            return None
        for buckets, told in ((self._wrong, _GUESSES), (self._asked, _OFTEN)):
            if wait_s := buckets.wait_s(client):
                return refuse(429, told, "too_many_requests", math.ceil(wait_s))
        self._asked.take(client)
        return None

    async def _pass(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        share = self._room.enter()
        body = _Body(receive, self._room, share, self._line, self._limits)
        answer.body = body
        self._line.enter(body)
        try:
            with self._waiting:
                await self._app(scope, body.receive, answer.send)
        except Exception as error:
            _LOG.error("the proxy failed with %s", type(error).__name__)
        finally:
            self._line.leave(body)
            self._room.leave(share)
            telemetry.record(BODY_BYTES, self._room.held)
        if not answer.started and not body.gone:
            await answer.refuse(body.refusal or _LOST)


class _Body:
    """Receives one request's body, a part at a time as there is room; one that comes too slowly ends as a hang-up."""

    def __init__(self, receive: Receive, room: Room, share: Share, line: Line, limits: ProxyLimits) -> None:
        self._receive, self._room, self._share, self._line, self._limits = receive, room, share, line, limits
        self._pace = Pace(limits.press_grace_s, limits.press_bytes_s)
        self._waited, self._received = 0.0, 0
        self._patience: asyncio.Timeout | None = None
        self._ended = self.gone = False
        self.refusal: Reply | None = None

    @property
    def behind_s(self) -> float:
        """Seconds that the client is behind; none once all has come: then it waits for us."""
        return 0.0 if self._ended else self._pace.behind_s

    @property
    def whole(self) -> bool:
        """Whether all of it has come."""
        return self._ended

    @property
    def held(self) -> int:
        """Bytes held here."""
        return self._share.held

    def give_way(self) -> None:
        """End the body, wherever its next part is waited for."""
        self.refusal = _CROWDED
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def receive(self) -> Message:
        """Return the next message."""
        if self._ended:
            return self._noted(await self._receive())  # a hang-up, whenever it comes
        if self.refusal is None:
            try:
                async with asyncio.timeout(None) as self._patience:
                    return await self._next()
            except TimeoutError:
                pass  # too slow, as `refusal` says
            finally:
                self._patience = None
        return {"type": "http.disconnect"}

    async def _next(self) -> Message:
        await self._room.before_read(self._share, partial(self._line.press, self))
        size = 0
        try:
            message = self._noted(await self._in_time())
            size = len(message.get("body", b""))
        finally:
            self._room.after_read(self._share, size)
            self._pace.came(size)
        self._received += size
        self._ended = not message.get("more_body", False)
        telemetry.record(BODY_BYTES, self._room.held)
        return message

    def _noted(self, message: Message) -> Message:
        self.gone = message["type"] == "http.disconnect"
        return message

    async def _in_time(self) -> Message:
        limits, started = self._limits, time.monotonic()
        allowed = min(limits.deadline_s, limits.grace_s + self._received / limits.floor_bytes_s)
        self._pace.wait()
        try:
            async with asyncio.timeout(allowed - self._waited):
                return await self._receive()
        except TimeoutError:
            self.refusal = _LATE
            raise
        finally:
            self._waited += time.monotonic() - started


class _Answer:
    """Sends one request's answer; Serve's own errors, which are plain text, become JSON.

    An answer that comes before the end of its request's body closes the connection: the server would go on reading that
    body, without any bound, to reach the next request.

    Attributes
    ----------
    body
        The request's body, once the application may ask for it.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: ProxyLimits) -> None:
        self._scope, self._receive, self._send, self._limits = scope, receive, send, limits
        self._began = time.perf_counter()
        self._drop = self._lingers = self.started = False
        self.body: _Body | None = None
        self.code = 0

    async def send(self, message: Message) -> None:
        """Pass on a message from the application or from Serve's proxy."""
        if message["type"] == "http.response.start":
            if _is_serves_own(message):
                self._drop = True
                await self.refuse(_LOST)
                return
            message["headers"] = [*message.get("headers", ()), (MARK.encode(), b"1")]
            self.started, self.code = True, message["status"]
        if not self._drop:
            await self._send_on(message)

    async def refuse(self, refusal: Reply) -> None:
        """Send a refusal, and count it: the application never will."""
        self.started = True
        answer = replace(refusal, headers={MARK: "1", **refusal.headers}).response()
        await answer(self._scope, self._receive, self._send_on)
        count_request(self._scope["path"], refusal.code, time.perf_counter() - self._began)

    async def _send_on(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _has_body(self._scope):
            self._lingers = self.body is None or not self.body.whole
            if self._lingers:
                headers = [one for one in message["headers"] if one[0].lower() != b"connection"]
                message["headers"] = [*headers, (b"connection", b"close")]
        if not self._lingers or message["type"] == "http.response.start" or message.get("more_body"):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._drain()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drain(self) -> None:
        """Drop what still comes of the body, within bounds: a connection closed at once takes the answer with it."""
        left, limits = self._limits.linger_bytes, self._limits
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.linger_s):
                while left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body"):
                        return


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _keep_only_uuids(scope: Scope) -> None:
    """Drop a client's own id of its request unless it is a UUID: it would stand in logs, and may name a patient."""
    headers = MutableHeaders(scope=scope)
    if "x-request-id" in headers and not request_id_of(headers["x-request-id"]):
        del headers["x-request-id"]


def _is_hidden(scope: Scope) -> bool:
    """Return whether another machine asks for one of Serve's own routes: they name all that is hosted."""
    path = scope["path"]
    return path.startswith("/-/") and path != "/-/healthz" and _client(scope) is not None


def _client(scope: Scope) -> str | None:
    host, _ = scope.get("client") or ("", 0)
    return client_of(host)


def _is_serves_own(start: Message) -> bool:
    """Return whether an answer is Serve's: shed, timed out, or without any replica. Our applications speak JSON."""
    plain = any(name.lower() == b"content-type" and value.startswith(b"text/plain") for name, value in start["headers"])
    return plain and int(start["status"]) in (408, 503)
