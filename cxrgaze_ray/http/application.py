"""The base of every application: its own routes and no others, each answer counted, readiness to wait for."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from email.message import Message
from typing import Any
from urllib.request import urlopen

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from cxrgaze_ray.http.middleware import Answered
from cxrgaze_ray.http.refusals import Refused, Reply, refuse

HEALTHY = Reply(200, {"status": "ok"})
"""Answer of /healthz by an application that runs, and of /readyz by one that can do its work."""


def make_application(title: str, count: Callable[[str, int, float], None], **described: Any) -> FastAPI:
    """Return an application without routes.

    Parameters
    ----------
    title
        Its name.
    count
        See `Answered`.
    described
        More of FastAPI's arguments, of which ``openapi_url`` publishes its description; by default nothing does.
    """
    api = FastAPI(title=title, docs_url=None, redoc_url=None, **{"openapi_url": None, **described})
    api.add_middleware(Answered, count=count)
    api.add_exception_handler(HTTPException, _without_route)
    api.add_exception_handler(RequestValidationError, _bad_query)
    api.add_exception_handler(Refused, _refused)
    return api


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return error.reply.response()


async def _bad_query(_: Request, error: Exception) -> Response:
    """Name the parameters and what they may be, never what was sent."""
    assert isinstance(error, RequestValidationError)
    told = " ".join(f"{one['loc'][-1]} {one['msg']}" for one in error.errors())
    return refuse(400, told, "bad_query").response()


async def _without_route(request: Request, error: Exception) -> Response:
    """Refuse a path or a method that has no route, and name the routes there are."""
    assert isinstance(error, HTTPException)
    routes = [route for route in request.app.routes if isinstance(route, APIRoute)]
    shown = [route for route in routes if route.include_in_schema]
    known = ", ".join(sorted(f"{method} {route.path}" for route in shown for method in route.methods or ()))
    reason = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    reply = refuse(error.status_code, f"{error.detail}. The service has {known}.", reason)
    return replace(reply, headers={**reply.headers, **(error.headers or {})}).response()


def wait_until_ready(url: str, timeout_s: float, has_failed: Callable[[], bool] = lambda: False) -> Message | None:
    """Wait until an application is ready and return its answer's headers; None if it is not within the time.

    Parameters
    ----------
    url, timeout_s
        Where it listens, and the longest wait in seconds.
    has_failed
        Says that there is nothing to wait for any more.
    """
    # our own certificate need not be of the name by which we reach ourselves, and nothing secret is asked or told
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not has_failed():
        try:
            with urlopen(f"{url}/readyz", timeout=5, context=context) as answer:
                headers: Message = answer.headers
                return headers
        except OSError:  # a refusal is one too
            time.sleep(0.2)
    return None
