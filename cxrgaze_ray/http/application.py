"""The base of every application: its own routes and no others, each answer counted, a health check to wait for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from email.message import Message
from urllib.request import urlopen

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from cxrgaze_ray.http.middleware import Answered
from cxrgaze_ray.http.refusals import Reply, refuse

HEALTHY = Reply(200, {"status": "ok"})
"""Answer of /healthz once the application can do its work."""


def make_application(title: str, count: Callable[[str, int, float], None]) -> FastAPI:
    """Return an application without routes; see `Answered` for `count`."""
    api = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None)
    api.add_middleware(Answered, count=count)
    api.add_exception_handler(HTTPException, _without_route)
    return api


async def _without_route(request: Request, error: Exception) -> Response:
    """Refuse a path or a method that has no route, and name the routes there are."""
    assert isinstance(error, HTTPException)
    routes = [route for route in request.app.routes if isinstance(route, APIRoute)]
    known = ", ".join(sorted(f"{method} {route.path}" for route in routes for method in route.methods or ()))
    reason = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    reply = refuse(error.status_code, f"{error.detail}. The service has {known}.", reason)
    return replace(reply, headers={**reply.headers, **(error.headers or {})}).response()


def wait_healthy(url: str, timeout_s: float) -> Message | None:
    """Wait for an application's first healthy answer and return its headers; None if none comes within the time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            with urlopen(f"{url}/healthz", timeout=5) as answer:
                headers: Message = answer.headers
                return headers
        except OSError:  # a refusal is one too
            time.sleep(0.2)
    return None
