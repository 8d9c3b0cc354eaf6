"""HTTP of the service around an ingress that decodes and asks the model; without Ray, and so tested without it."""

# no `from __future__ import annotations` here: FastAPI must see the routes' annotations as types, not as strings

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Protocol

from fastapi import Depends, FastAPI, Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from cxrgaze_ray.config.serve_file import IngressSettings
from cxrgaze_ray.errors import EnvironmentFault, RadiographError
from cxrgaze_ray.http.application import HEALTHY, make_application
from cxrgaze_ray.http.middleware import check_token, count_request, read_body
from cxrgaze_ray.http.refusals import Refused, refuse
from cxrgaze_ray.models.predictions import StoredPredictions
from cxrgaze_ray.radiograph.decoding import Decoded
from cxrgaze_ray.schemas import Reason
from cxrgaze_ray.serving import openapi
from cxrgaze_ray.serving.contract import Answer, Asked, Row
from cxrgaze_ray.serving.multipart import BadForm, file_of, files_of
from cxrgaze_ray.serving.pages import add_pages
from cxrgaze_ray.serving.replies import (
    Serving,
    answer,
    batch,
    describe,
    refuse_cam,
    refuse_picture,
    scored_row,
    status_code,
    unscored_row,
)
from cxrgaze_ray.telemetry import record
from cxrgaze_ray.telemetry.table import REQUEST_FILES

_BEARER = HTTPBearer(auto_error=False, description="The service's CXRGAZE_TOKEN, where it was started with one.")


class Service(Protocol):
    """What the routes ask of the ingress."""

    @property
    def serving(self) -> Serving | None:
        """The model being served, once there is one."""

    @property
    def reached(self) -> bool:
        """Whether a replica of the model answered of late."""

    async def ask(self, decoded: Decoded, serving: Serving, *, cam: bool) -> StoredPredictions:
        """Score one decoded picture; `Refused` if the model is not available just now."""


def make_api(service: Service, settings: IngressSettings, token: str = "") -> FastAPI:
    """Put the routes around a service; with a token, all under /v1 ask for it."""
    described = {"description": openapi.description(), "version": "1", "openapi_url": "/openapi.json"}
    api = make_application("cxrgaze", count_request, **described)

    async def allowed(
        request: Request, _shown: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
    ) -> None:
        if token and (refused := check_token(request, token)):
            raise Refused(refused)

    async def ready(_allowed: Annotated[None, Depends(allowed)]) -> Serving:
        return _ready(service)

    _add_health(api, service)
    _add_v1(api, _Desk(service, settings), ready)
    if settings.page:
        add_pages(api)
    written = openapi.promised(api.openapi())
    api.openapi = lambda: written  # type: ignore[method-assign]
    return api


def document() -> dict[str, Any]:
    """Return the OpenAPI document, as every service has it."""

    class Nobody:
        serving: Serving | None = None
        reached = False

        async def ask(self, decoded: Decoded, serving: Serving, *, cam: bool) -> StoredPredictions:
            raise NotImplementedError

    return make_api(Nobody(), IngressSettings()).openapi()


def _ready(service: Service) -> Serving:
    if service.serving is None:
        raise Refused(refuse(503, "No model is loaded yet.", "not_ready"))
    return service.serving


def _add_health(api: FastAPI, service: Service) -> None:
    @api.get("/healthz", **openapi.HEALTH)
    async def healthz() -> Response:
        """Answer as soon as the application runs, whether or not a model is loaded."""
        return HEALTHY.response()

    @api.get("/readyz", **openapi.READY)
    async def readyz() -> Response:
        """Answer 200 if a model is loaded, and a replica of it answered within the last seconds."""
        _ready(service)
        if not service.reached:
            raise Refused(refuse(503, "No replica of the model answers just now.", "model_unavailable"))
        return HEALTHY.response()


def _add_v1(api: FastAPI, desk: "_Desk", ready: Callable[..., Awaitable[Serving]]) -> None:
    @api.get("/v1/model", **openapi.MODEL)
    async def model(serving: Annotated[Serving, Depends(ready)]) -> Response:
        """Describe the model being served."""
        return _json(describe(serving))

    @api.post("/v1/predict", **openapi.PREDICT)
    async def predict(
        request: Request, serving: Annotated[Serving, Depends(ready)], asked: Annotated[Asked, Depends()]
    ) -> Response:
        """Score one DICOM, JPEG or PNG.

        `Accept: image/png` is answered with the map alone, where the model predicts one; everything else with JSON.
        """
        return await desk.one(request, serving, asked)

    @api.post("/v1/predict/batch", **openapi.BATCH)
    async def predict_batch(
        request: Request, serving: Annotated[Serving, Depends(ready)], asked: Annotated[Asked, Depends()]
    ) -> Response:
        """Score the files of a form, all by the same weights.

        The answer is JSON with exactly one row for each file, in the form's order. A file that can't be scored has a
        row with its reason; what is not about a file, such as a lost process, refuses the batch as a whole.
        """
        return await desk.many(request, serving, asked)


class _Desk:
    """Reads bodies, and has their pictures decoded and scored.

    The serving it is given was read before the body is awaited: the alias may move meanwhile.
    """

    def __init__(self, service: Service, settings: IngressSettings) -> None:
        self._service, self._settings = service, settings

    async def one(self, request: Request, serving: Serving, asked: Asked) -> Response:
        """Answer a request with one picture."""
        accepted = request.headers.get("accept", "")
        if refused := refuse_picture(accepted, serving) or (refuse_cam(accepted, serving) if asked.cam else None):
            raise Refused(refused)
        try:
            async with serving.decoders.held():
                body = file_of(await self._body(request), request.headers.get("content-type", ""))
                decoded = await _decode(serving, body)
        except RadiographError as error:
            return refuse(status_code(error), error.message, error.reason).response()
        result = await self._service.ask(decoded, serving, cam=asked.cam)
        if "image/png" in accepted and result.saliency is not None:
            ((png, _),) = await asyncio.to_thread(result.saliency.pngs)
            return Response(png, media_type="image/png")
        return _json(await asyncio.to_thread(answer, serving, decoded, result, picture=asked.picture))

    async def many(self, request: Request, serving: Serving, asked: Asked) -> Response:
        """Answer a request with several pictures."""
        if asked.cam and (refused := refuse_cam("", serving)):
            raise Refused(refused)
        # no more of a batch at once than there are decoders: others' requests come between
        some = asyncio.Semaphore(self._settings.decoders)
        async with serving.decoders.held():
            files = await self._files(request)
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._row(index, file, serving, asked, some))
                        for index, file in enumerate(files)
                    ]
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from None
        return _json(batch(serving, [task.result() for task in tasks]))

    async def _row(
        self, index: int, file: bytes, serving: Serving, asked: Asked, some: AbstractAsyncContextManager[Any]
    ) -> Row:
        async with some:
            try:
                decoded = await _decode(serving, file)
            except RadiographError as error:
                return unscored_row(index, error)
            result = await self._service.ask(decoded, serving, cam=asked.cam)
            return await asyncio.to_thread(scored_row, index, decoded, result, picture=asked.picture)

    async def _files(self, request: Request) -> list[bytes]:
        most = self._settings.max_batch
        try:
            body = await self._body(request)
            files = files_of(body, request.headers.get("content-type", ""), most)
        except RadiographError as error:
            raise Refused(refuse(status_code(error), error.message, error.reason)) from None
        except BadForm as error:
            raise Refused(refuse(400, str(error), "not_a_form")) from None
        if not files:
            told = "Send a form with the files: curl -F files=@a.dcm -F files=@b.dcm."
            raise Refused(refuse(415 if files is None else 400, told, "not_a_form"))
        if len(files) > most:
            raise Refused(refuse(413, f"A batch holds at most {most} files; send more requests.", "too_many_images"))
        record(REQUEST_FILES, len(files))
        return files

    async def _body(self, request: Request) -> bytes:
        """Read the body, but never more than the limit."""
        body = await read_body(request, self._settings.max_body_mib * 2**20)
        if body is None:
            raise RadiographError(Reason.TOO_LARGE, f"The body is over {self._settings.max_body_mib} MiB.")
        return body


async def _decode(serving: Serving, body: bytes) -> Decoded:
    try:
        return await serving.decoders.decode(body)
    except EnvironmentFault:
        told = "No decoding process can start just now; try again."
        raise Refused(refuse(503, told, "decoder_unavailable")) from None


def _json(found: Answer) -> Response:
    return Response(found.json_bytes(), media_type="application/json")
