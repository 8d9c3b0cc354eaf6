"""Around every route: ask for the token, bound a body, count answers, and answer when a route fails."""

from __future__ import annotations

import hmac
import logging
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxrgaze_ray import telemetry
from cxrgaze_ray.errors import place_of
from cxrgaze_ray.http.refusals import Reply, refuse
from cxrgaze_ray.telemetry import labels, table
from cxrgaze_ray.telemetry.logs import about, event, request_id_of

ROUTES = tuple(route for route in labels.ROUTE.values if route != labels.OTHER)

_PROBED = {("/healthz", 200), ("/readyz", 200)}
"""What is asked every few seconds, and never of interest in a log."""

_LOG, _OURS = logging.getLogger("ray.serve"), logging.getLogger(__name__)


def check_token(request: Request, token: str) -> Reply | None:
    """Refuse a request without the bearer token; return None for one that carries it.

    The scheme's name may be in any case (RFC 9110, 11.1).
    """
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # compared in constant time, which reveals nothing of the token
    if scheme.lower() == "bearer" and hmac.compare_digest(given.lstrip(" ").encode("latin-1"), token.encode()):
        return None
    return refuse(401, "A bearer token is needed.", "unauthorised")


async def read_body(request: Request, limit: int) -> bytes | None:
    """Read the body, never more than `limit` bytes of it; None if it is larger."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        return None
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > limit:
            return None
    return b"".join(parts)


def route_of(path: str) -> str:
    """Return the route that a path ends with, or ``other``: a client's own words never become a metric's label."""
    return next((route for route in ROUTES if path.endswith(route)), labels.OTHER)


def count_request(path: str, code: int, seconds: float) -> None:
    """Count an answer of the scoring application, or of the proxy in its place."""
    route, told = route_of(path), telemetry.code_label(code)
    telemetry.record(table.REQUESTS, route=route, code=told)
    telemetry.record(table.REQUEST_SECONDS, seconds, route=route, code=told)


class Answered:
    """Wraps an application: counts every answer, and answers for our own failures, in JSON with the request's id.

    Parameters
    ----------
    app
        The application.
    count
        Called with path, status code and seconds; not for a client that hung up, which got no answer.
    """

    def __init__(self, app: ASGIApp, count: Callable[[str, int, float], None]) -> None:
        self._app, self._count = app, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, code = time.perf_counter(), 0
        request = request_id_of(Headers(scope=scope).get("x-request-id")) or uuid.uuid4().hex

        async def noted(message: Message) -> None:
            nonlocal code
            code = message.get("status", code)
            if message["type"] == "http.response.start":
                _guard(message)
            await send(message)

        with about(request=request):
            try:
                await self._app(scope, receive, noted)
            except Exception as error:
                if _hung_up(error):
                    return
                failed = _failed(request, error)
                if code:  # too late for another answer
                    raise
                await failed.response()(scope, receive, noted)
            finally:
                if code:
                    seconds = time.perf_counter() - began
                    self._count(scope["path"], code, seconds)
                    _log_answer(route_of(scope["path"]), code, seconds)


def _hung_up(error: Exception) -> bool:
    """Return whether the client is gone: Serve then cancels all that was asked for it, by an error of its tasks."""
    ray = sys.modules.get("ray.exceptions")
    return isinstance(error, ClientDisconnect) or (ray is not None and isinstance(error, ray.TaskCancelledError))


def _guard(start: Message) -> None:
    """Keep an answer about a patient out of caches, and every answer from being taken for another type."""
    start["headers"] = list(start.get("headers", ()))
    headers = MutableHeaders(raw=start["headers"])
    headers.setdefault("Cache-Control", "no-store")
    headers.setdefault("X-Content-Type-Options", "nosniff")


def _log_answer(route: str, code: int, seconds: float) -> None:
    if (route, code) not in _PROBED:
        event(_OURS, "request answered", route=route, code=code, seconds=round(seconds, 4))


def _failed(request_id: str, error: Exception) -> Reply:
    """Log a failure by its place, never by its message, which may quote a file; return what the client is told."""
    _LOG.error("request %s failed with %s", request_id, place_of(error))
    told = refuse(500, "This is a fault of the service; its log has the request's id.", "bug")
    return replace(told, body={**told.body, "request_id": request_id})
