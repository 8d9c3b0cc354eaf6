"""HTTP of the webhook: checks the token, bounds the body, and counts every answer."""

# no `from __future__ import annotations` here: FastAPI must see the routes' annotations as types, not as strings

import asyncio

from fastapi import FastAPI, Request, Response

from cxrgaze_ray import telemetry
from cxrgaze_ray.http.application import HEALTHY, make_application
from cxrgaze_ray.http.middleware import check_token, read_body
from cxrgaze_ray.http.refusals import refuse
from cxrgaze_ray.lifecycle.webhook.service import Service
from cxrgaze_ray.telemetry.table import WEBHOOK_REQUESTS


def make_api(service: Service, token: str, max_body_bytes: int) -> FastAPI:
    """Put the routes around a service; without the token only the health check is answered."""
    api = make_application("cxrgaze webhook", _count)
    one_at_a_time = asyncio.Lock()

    @api.get("/healthz")
    @api.get("/readyz")
    async def healthz() -> Response:
        return HEALTHY.response()

    @api.post("/v1/retrain")
    async def retrain(request: Request) -> Response:
        if refused := check_token(request, token):
            return refused.response()
        body = await read_body(request, max_body_bytes)
        if body is None:
            return refuse(413, f"The body is over {max_body_bytes // 1024} KiB.", "too_large").response()
        async with one_at_a_time:
            return (await asyncio.to_thread(service.receive, body)).response()

    @api.get("/v1/retrain/{submission_id}")
    async def state(request: Request, submission_id: str) -> Response:
        if refused := check_token(request, token):
            return refused.response()
        return (await asyncio.to_thread(service.state, submission_id)).response()

    return api


def _count(_path: str, code: int, _seconds: float) -> None:
    telemetry.record(WEBHOOK_REQUESTS, code=telemetry.code_label(code))
