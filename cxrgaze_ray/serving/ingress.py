"""The HTTP ingress: radiographs in, probabilities and saliency out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.config import BackpressureConfig
from ray.serve.handle import DeploymentHandle

from cxrgaze_ray.cluster.allocator import return_freed_memory
from cxrgaze_ray.cluster.connection import find_cause, lost_replica
from cxrgaze_ray.cluster.ray_internals import http_host
from cxrgaze_ray.config.listening import is_loopback, token_of
from cxrgaze_ray.config.serve_file import TOKEN_VARIABLE, IngressSettings
from cxrgaze_ray.errors import CxrgazeError, EnvironmentFault
from cxrgaze_ray.http.refusals import RETRY_AFTER_S, Refused, refuse
from cxrgaze_ray.models.bundle import read_bundle
from cxrgaze_ray.models.predictions import StoredPredictions
from cxrgaze_ray.radiograph.decoding import Decoded, Decoder
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.registry.ledger.rules import version_number
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.serving.decoder_pool import DecoderPool
from cxrgaze_ray.serving.model import MAX_ONGOING
from cxrgaze_ray.serving.replies import Serving
from cxrgaze_ray.serving.routes import make_api
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.telemetry import Waiting, record, table, timed
from cxrgaze_ray.telemetry.logs import event, start_logging
from cxrgaze_ray.telemetry.traces import trace_requests

_LOG, _OURS = logging.getLogger("ray.serve"), logging.getLogger(__name__)

MAX_INSIDE = 1024
"""Requests an ingress replica takes on at once: more than `http.proxy.ProxyLimits.requests`, so that they queue here,
first come, first served. In Serve's own router waiting requests retry after pauses of up to half a second.
"""

_ASKED = MAX_ONGOING // 2
"""Requests that an ingress replica has at the model at once, for the same reason."""

_REACHED_WITHIN_S = 10.0
"""Longest time in which a replica of the model answers, for this one to call itself ready."""


def _passes(error: Exception) -> bool:
    """Return whether the same request may succeed later: a replica or the bundle's store failed, or time ran out."""
    return isinstance(error, TimeoutError) or lost_replica(error) or isinstance(find_cause(error), CxrgazeError)


def check_closed(settings: IngressSettings) -> None:
    """Check that nobody needs a token: a Serve that runs already, or a config file, may open a port to others.

    Raises
    ------
    EnvironmentFault
        If other machines can reach HTTP, or the settings ask for a token.
    """
    host = http_host()
    if settings.require_token or not (host is None or is_loopback(host)):
        why = "The settings ask for a token" if settings.require_token else f"HTTP on {host} can be reached by others"
        raise EnvironmentFault(
            f"{why}, and {TOKEN_VARIABLE} is not set.",
            "Set it to a long random string where the cluster's nodes are started, or let HTTP listen on 127.0.0.1.",
        )


@serve.deployment(
    name="Ingress",
    max_ongoing_requests=MAX_INSIDE,
    max_queued_requests=128,
    backpressure_config=BackpressureConfig(status_code=503, retry_after_s=RETRY_AFTER_S),
)
@serve.ingress()
class Ingress:
    """Checks and decodes bodies in a process that may crash, and asks the model deployment."""

    async def __init__(self, settings: IngressSettings, model: DeploymentHandle[Any]) -> None:  # type: ignore[misc]
        return_freed_memory()
        start_logging()
        self._settings = settings
        self._token = token_of(TOKEN_VARIABLE)
        if not self._token:
            await asyncio.to_thread(check_closed, settings)
        self._model = model
        self._opened: Registry | None = None
        self._serving: Serving | None = None
        self._asked = asyncio.Semaphore(_ASKED)
        self._waiting = Waiting("model")
        self._reached = False
        self._loaded = asyncio.Event()
        self._tell_ready()
        # kept, because the loop holds its tasks only weakly
        self._following = asyncio.get_running_loop().create_task(self._follow())
        # Serve sends requests to a replica as soon as it is made, and in a rolling update ends another for it: one
        # without a model is in the making for as long as it takes
        await self._loaded.wait()

    def _registry(self) -> Registry:
        """Return the registry, kept so that a poll reads only new entries of the ledger."""
        if self._opened is None:
            self._opened = Registry(open_store(self._settings.registry))
        return self._opened

    async def _follow(self) -> None:
        """Load the model, then switch whenever the alias moves: every replica is warm before the first request."""
        while True:
            for step in (self._switch, self._reach):
                try:
                    await step()
                except Exception as error:
                    # An unreachable registry, a bundle that does not load or a lost replica leaves the model in place.
                    if not _passes(error):
                        _LOG.exception("following the model failed; trying again")
            self._tell_ready()
            await asyncio.sleep(self._settings.follow_every_s if self._serving else 1.0)

    async def _switch(self) -> None:
        pin = await asyncio.to_thread(self._registry().resolve, self._settings.model)
        if self._serving is not None and pin == self._serving.pin:
            return
        info = (await asyncio.to_thread(read_bundle, open_store(pin.uri))).info
        info.check_needs_no_gaze()
        engine = await self._model.plan_engine.remote(pin, self._settings.engine)
        await self._model.broadcast("warm", pin, engine).results_async()
        record(table.MODEL_VERSION, version_number(pin.version), job="serve")
        event(_OURS, "model served", version=pin.version, engine=engine)
        before = self._serving
        if before is not None and before.info.profile == info.profile:
            self._serving = Serving(pin, engine, info, before.decoders)
            return
        decoders = DecoderPool(self._settings.decoders, self._maker(info.profile))
        self._serving, self._reached = Serving(pin, engine, info, decoders), True
        self._loaded.set()
        if before is not None:
            await before.decoders.retire()

    async def _reach(self) -> None:
        """Note whether a replica of the model answers: they may all be gone, with no room for others."""
        if self._serving is None:
            return
        try:
            await asyncio.wait_for(self._model.held.remote(), _REACHED_WITHIN_S)
            self._reached = True
        except Exception:
            self._reached = False
            raise

    def _tell_ready(self) -> None:
        record(table.SERVING_READY, float(self._serving is not None and self._reached))

    def _maker(self, profile: str) -> Callable[[], Decoder]:
        reading = Reading(frontal_only=self._settings.view == "frontal")
        return partial(Decoder, profile, reading=reading, timeout_s=self._settings.decode_timeout_s)

    @property
    def serving(self) -> Serving | None:
        """The model being served, once there is one."""
        return self._serving

    @property
    def reached(self) -> bool:
        """Whether a replica of the model answered of late."""
        return self._reached

    # Serve calls this in the replica: the routes close over a service that can't be pickled, while an app given to
    # `serve.ingress` would have to be
    def __serve_build_asgi_app__(self) -> FastAPI:
        api = make_api(self, self._settings, self._token)
        trace_requests(api)
        return api

    async def ask(self, decoded: Decoded, serving: Serving, *, cam: bool) -> StoredPredictions:
        """Have the model deployment score a decoded picture.

        Raises
        ------
        Refused
            If it is not available just now.
        """
        try:
            with self._waiting, timed(table.STAGE_SECONDS, job="serve", stage="model"):
                return await asyncio.wait_for(self._ask(decoded, serving, cam=cam), self._settings.model_timeout_s)
        except Exception as error:
            if not _passes(error):
                raise
        told = "The model is not available just now; try again."
        raise Refused(refuse(503, told, "model_unavailable"))

    async def _ask(self, decoded: Decoded, serving: Serving, *, cam: bool) -> StoredPredictions:
        async with self._asked:
            # Serve cancels the call when the client hangs up: see `Model._compute`
            asked = self._model.predict.remote(decoded.pixels[None], serving.pin, serving.engine, urgent=True, cam=cam)
            result: StoredPredictions = await asked
        return result
