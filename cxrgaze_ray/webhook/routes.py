"""HTTP of the webhook: who may ask, how much may be sent, and every answer counted."""

# no `from __future__ import annotations` here: FastAPI must see the routes' annotations as types, not as strings

import asyncio
import hmac
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from cxrgaze_ray import telemetry
from cxrgaze_ray.webhook.service import Reply, Service, refuse


class _TooLarge(Exception):
    """The body is over the limit."""


def make_api(service: Service, token: str, max_body_bytes: int) -> FastAPI:
    """Put the routes around a service; without the token nothing is answered but the health check."""
    api = FastAPI(title="cxrgaze webhook", docs_url=None, redoc_url=None, openapi_url=None)
    one_at_a_time = asyncio.Lock()

    def authorised(request: Request) -> bool:
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())

    @api.middleware("http")
    async def count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        code = 500
        try:
            response = await call_next(request)
            code = response.status_code
            return response
        finally:
            telemetry.record(telemetry.WEBHOOK_REQUESTS, code=str(code))

    @api.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @api.post("/v1/retrain")
    async def retrain(request: Request) -> Response:
        if not authorised(request):
            return _unauthorised()
        try:
            body = await _read(request, max_body_bytes)
        except _TooLarge:
            return _send(refuse(413, f"The body is over {max_body_bytes // 1024} KiB.", "too_large"))
        async with one_at_a_time:
            return _send(await asyncio.to_thread(service.receive, body))

    @api.get("/v1/retrain/{submission_id}")
    async def state(request: Request, submission_id: str) -> Response:
        if not authorised(request):
            return _unauthorised()
        return _send(await asyncio.to_thread(service.state, submission_id))

    return api


def _send(reply: Reply) -> Response:
    return JSONResponse(reply.body, status_code=reply.code, headers=reply.headers)


def _unauthorised() -> Response:
    reply = refuse(401, "A bearer token is needed.", "unauthorised")
    return JSONResponse(reply.body, status_code=reply.code, headers={"WWW-Authenticate": "Bearer"})


async def _read(request: Request, limit: int) -> bytes:
    """Read the body, never more than the limit of it."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _TooLarge
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise _TooLarge
    return bytes(body)
