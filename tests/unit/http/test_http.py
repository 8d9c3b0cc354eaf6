"""What both HTTP applications do with answers and with failures of their own."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from cxrgaze_ray.http.middleware import Answered, route_of

SECRET = "DOE^JANE 1950"
Counted = list[tuple[str, int]]


def make_api(counted: Counted) -> FastAPI:
    api = FastAPI()
    api.add_middleware(Answered, count=lambda path, code, seconds: counted.append((path, code)))

    @api.get("/sound")
    async def sound() -> Response:
        return PlainTextResponse("sound", 201)

    @api.get("/broken")
    async def broken() -> Response:
        raise ValueError(SECRET)

    @api.get("/late")
    async def late() -> Response:
        def parts() -> Any:
            yield b"a"
            raise ValueError(SECRET)

        return StreamingResponse(parts())

    @api.get("/hung-up")
    async def hung_up() -> Response:
        raise ClientDisconnect

    @api.get("/cancelled")
    async def cancelled(request: Request) -> Response:
        raise asyncio.CancelledError

    return api


def get(api: FastAPI, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://x") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(run())


GIVEN = "2f1d2f6e-6a1b-4a6c-9e51-0d8f4f7cfb11"


def test_every_answer_is_counted_once() -> None:
    counted: Counted = []
    api = make_api(counted)
    assert [get(api, path).status_code for path in ("/sound", "/nowhere")] == [201, 404]
    assert counted == [("/sound", 201), ("/nowhere", 404)]


def test_a_failure_is_json_with_the_request_s_id_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    counted: Counted = []
    with caplog.at_level(logging.ERROR, "ray.serve"):
        found = get(make_api(counted), "/broken", {"X-Request-ID": GIVEN})
    assert (found.status_code, found.json()["reason"], found.json()["request_id"]) == (500, "bug", GIVEN)
    assert counted == [("/broken", 500)]
    (line,) = caplog.messages
    assert GIVEN in line
    assert "ValueError at test_http.py" in line
    assert SECRET not in found.text + line


@pytest.mark.parametrize("given", ["<script>", "MRN-774411"])
def test_an_id_that_is_no_uuid_is_not_repeated(given: str) -> None:
    told = get(make_api([]), "/broken", {"X-Request-ID": given}).json()["request_id"]
    assert len(told) == 32
    assert told.isalnum()


def test_a_failure_after_the_first_byte_is_counted_as_what_was_sent() -> None:
    counted: Counted = []
    with pytest.raises(ValueError, match="DOE"):
        get(make_api(counted), "/late")
    assert counted == [("/late", 200)]


@pytest.mark.parametrize("path", ["/hung-up", "/cancelled"])
def test_a_client_that_hung_up_got_no_answer(path: str) -> None:
    counted: Counted = []
    with pytest.raises((AssertionError, asyncio.CancelledError)):  # of httpx, which waits for an answer
        get(make_api(counted), path)
    assert counted == []


def test_a_path_is_no_label() -> None:
    paths = ["/v1/predict", "/narrow/v1/predict", "/healthz", "/v1/MRN-1", "/v1/predict/"]
    assert [route_of(path) for path in paths] == ["/v1/predict", "/v1/predict", "/healthz", "other", "other"]
