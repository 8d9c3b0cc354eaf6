"""The HTTP ingress: one radiograph in, probabilities and saliency out."""

# no `from __future__ import annotations` here: FastAPI must see the routes' annotations as types, not as strings

import asyncio
import logging
import os
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from ray import serve
from ray.serve.config import BackpressureConfig
from ray.serve.handle import DeploymentHandle

from cxrgaze_ray.cluster.allocator import return_freed_memory
from cxrgaze_ray.cluster.connection import find_cause, lost_replica
from cxrgaze_ray.config.serve_file import TOKEN_VARIABLE, IngressSettings
from cxrgaze_ray.errors import CxrgazeError, EnvironmentFault, RadiographError
from cxrgaze_ray.http.application import HEALTHY, make_application
from cxrgaze_ray.http.middleware import check_token, count_request, read_body
from cxrgaze_ray.http.refusals import RETRY_AFTER_S, Reply, refuse
from cxrgaze_ray.models.bundle import read_bundle
from cxrgaze_ray.models.predictions import StoredPredictions
from cxrgaze_ray.radiograph.decoding import Decoded, Decoder
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.schemas import Reason
from cxrgaze_ray.serving.decoder_pool import DecoderPool
from cxrgaze_ray.serving.model import MAX_ONGOING
from cxrgaze_ray.serving.multipart import file_of
from cxrgaze_ray.serving.replies import Serving, answer, describe, refuse_cam, refuse_picture, status_code
from cxrgaze_ray.storage import open_store

_LOG = logging.getLogger("ray.serve")

MAX_INSIDE = 1024
"""Requests an ingress replica takes on at once: more than `http.proxy.ProxyLimits.requests`, so that they queue here,
first come, first served. In Serve's own router waiting requests retry after pauses of up to half a second.
"""

_ASKED = MAX_ONGOING // 2
"""Requests that an ingress replica has at the model at once, for the same reason."""


def _passes(error: Exception) -> bool:
    """Return whether the same request may succeed later: a replica or the bundle's store failed, or time ran out."""
    return isinstance(error, TimeoutError) or lost_replica(error) or isinstance(find_cause(error), CxrgazeError)


api = make_application("cxrgaze", count_request)


@serve.deployment(
    name="Ingress",
    max_ongoing_requests=MAX_INSIDE,
    max_queued_requests=128,
    backpressure_config=BackpressureConfig(status_code=503, retry_after_s=RETRY_AFTER_S),
)
@serve.ingress(api)
class Ingress:
    """Checks and decodes bodies in a process that may crash, and asks the model deployment."""

    def __init__(self, settings: IngressSettings, model: DeploymentHandle[Any]) -> None:
        return_freed_memory()
        self._settings = settings
        self._token = os.environ.get(TOKEN_VARIABLE, "")
        if settings.require_token and not self._token:
            raise EnvironmentFault(
                f"{TOKEN_VARIABLE} is not set.",
                "Set it to a long random string where the cluster's nodes are started, or leave require_token out.",
            )
        self._model = model
        self._serving: Serving | None = None
        self._asked = asyncio.Semaphore(_ASKED)
        # kept, because the loop holds its tasks only weakly
        self._following = asyncio.get_event_loop().create_task(self._follow())

    @cached_property
    def _registry(self) -> Registry:
        """The registry, kept so that a poll reads only new entries of the ledger."""
        return Registry(open_store(self._settings.registry))

    async def _follow(self) -> None:
        """Load the model, then switch whenever the alias moves: every replica is warm before the first request."""
        while True:
            try:
                await self._switch()
            except Exception as error:
                # An unreachable registry, a bundle that does not load or a lost replica leaves the model in place.
                if not _passes(error):
                    _LOG.exception("following the model failed; trying again")
            await asyncio.sleep(self._settings.follow_every_s if self._serving else 1.0)

    async def _switch(self) -> None:
        pin = await asyncio.to_thread(self._registry.resolve, self._settings.model)
        if self._serving is not None and pin == self._serving.pin:
            return
        info = (await asyncio.to_thread(read_bundle, open_store(pin.uri))).info
        info.check_needs_no_gaze()
        engine = await self._model.plan_engine.remote(pin, self._settings.engine)
        await self._model.broadcast("warm", pin, engine).results_async()
        before = self._serving
        if before is not None and before.info.profile == info.profile:
            self._serving = Serving(pin, engine, info, before.decoders)
            return
        decoders = DecoderPool(self._settings.decoders, self._maker(info.profile))
        self._serving = Serving(pin, engine, info, decoders)
        if before is not None:
            await before.decoders.retire()

    def _maker(self, profile: str) -> Callable[[], Decoder]:
        reading = Reading(frontal_only=self._settings.view == "frontal")
        return partial(Decoder, profile, reading=reading, timeout_s=self._settings.decode_timeout_s)

    @api.get("/healthz")
    async def healthz(self) -> Response:
        """Answer 200 once a model is loaded and warm."""
        return (self._not_ready() or HEALTHY).response()

    @api.get("/v1/model")
    async def model(self, request: Request) -> Response:
        """Describe the model being served."""
        if refused := self._authorise(request) or self._not_ready():
            return refused.response()
        return JSONResponse(describe(self._ready()))

    @api.post("/v1/predict")
    async def predict(self, request: Request) -> Response:
        """Score the DICOM, JPEG or PNG in the body, or in the one file of a form; ?cam=true adds Grad-CAM."""
        if refused := self._authorise(request) or self._not_ready():
            return refused.response()
        serving = self._ready()  # before the body is awaited: the alias may move meanwhile
        accepted = request.headers.get("accept", "")
        asked = request.query_params.get("cam", "false")
        if refused := refuse_picture(accepted, serving) or refuse_cam(asked, accepted, serving):
            return refused.response()
        try:
            async with serving.decoders.held():
                decoded = await serving.decoders.decode(await self._read(request))
        except RadiographError as error:
            return refuse(status_code(error), error.message, error.reason).response()
        except EnvironmentFault:
            return refuse(503, "No decoding process can start just now; try again.", "decoder_unavailable").response()
        try:
            result = await asyncio.wait_for(
                self._ask(decoded, serving, cam=asked == "true"), self._settings.model_timeout_s
            )
        except Exception as error:
            if not _passes(error):
                raise
            return refuse(503, "The model is not available just now; try again.", "model_unavailable").response()
        if "image/png" in accepted and result.saliency is not None:
            ((png, _),) = await asyncio.to_thread(result.saliency.pngs)
            return Response(png, media_type="image/png")
        return JSONResponse(await asyncio.to_thread(answer, serving, decoded, result))

    async def _ask(self, decoded: Decoded, serving: Serving, *, cam: bool) -> StoredPredictions:
        async with self._asked:
            # Serve cancels the call when the client hangs up: see `Model._compute`
            asked = self._model.predict.remote(decoded.pixels[None], serving.pin, serving.engine, urgent=True, cam=cam)
            result: StoredPredictions = await asked
        return result

    def _ready(self) -> Serving:
        assert self._serving is not None
        return self._serving

    def _not_ready(self) -> Reply | None:
        return None if self._serving else refuse(503, "No model is loaded yet.", "not_ready")

    def _authorise(self, request: Request) -> Reply | None:
        return check_token(request, self._token) if self._token else None

    async def _read(self, request: Request) -> bytes:
        """Read the body, but never more than the limit."""
        body = await read_body(request, self._settings.max_body_mib * 2**20)
        if body is None:
            raise RadiographError(Reason.TOO_LARGE, f"The body is over {self._settings.max_body_mib} MiB.")
        return file_of(body, request.headers.get("content-type", ""))
