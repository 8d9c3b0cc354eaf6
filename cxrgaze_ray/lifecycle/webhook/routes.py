"""HTTP of the webhook: who may ask, how much may be sent, and every answer counted."""

# no `from __future__ import annotations` here: FastAPI must see the routes' annotations as types, not as strings

import asyncio

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from cxrgaze_ray import telemetry
from cxrgaze_ray.http.middleware import Answered, authorised, read_body
from cxrgaze_ray.lifecycle.webhook.service import Reply, Service, refuse


def make_api(service: Service, token: str, max_body_bytes: int) -> FastAPI:
    """Put the routes around a service; without the token nothing is answered but the health check."""
    api = FastAPI(title="cxrgaze webhook", docs_url=None, redoc_url=None, openapi_url=None)
    api.add_middleware(Answered, count=_count)
    one_at_a_time = asyncio.Lock()

    @api.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @api.post("/v1/retrain")
    async def retrain(request: Request) -> Response:
        if not authorised(request, token):
            return _unauthorised()
        body = await read_body(request, max_body_bytes)
        if body is None:
            return _send(refuse(413, f"The body is over {max_body_bytes // 1024} KiB.", "too_large"))
        async with one_at_a_time:
            return _send(await asyncio.to_thread(service.receive, body))

    @api.get("/v1/retrain/{submission_id}")
    async def state(request: Request, submission_id: str) -> Response:
        if not authorised(request, token):
            return _unauthorised()
        return _send(await asyncio.to_thread(service.state, submission_id))

    return api


def _count(_path: str, code: int, _seconds: float) -> None:
    telemetry.record(telemetry.WEBHOOK_REQUESTS, code=str(code))


def _send(reply: Reply) -> Response:
    return JSONResponse(reply.body, status_code=reply.code, headers=reply.headers)


def _unauthorised() -> Response:
    reply = refuse(401, "A bearer token is needed.", "unauthorised")
    return JSONResponse(reply.body, status_code=reply.code, headers={"WWW-Authenticate": "Bearer"})
