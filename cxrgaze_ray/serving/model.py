"""The model deployment: batches of ready images in, probabilities and saliency out.

Whoever deploys or calls it imports this module, a scoring run's driver among them: torch, which takes 380 MB and
seconds, is loaded by replicas alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from ray import serve

from cxrgaze_ray import telemetry
from cxrgaze_ray.config import DeviceName, EngineKind, Record
from cxrgaze_ray.config.serve_file import ComputeSettings, Served
from cxrgaze_ray.errors import BundleError, CxrgazeError
from cxrgaze_ray.models.bundle import Bundle, read_bundle
from cxrgaze_ray.models.device import DeviceMeter
from cxrgaze_ray.models.predictions import StoredPredictions
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import pin_model
from cxrgaze_ray.schemas import HEIGHT, WIDTH
from cxrgaze_ray.serving.lanes import Lanes
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.telemetry import table
from cxrgaze_ray.telemetry.logs import event, start_logging

if TYPE_CHECKING:
    from cxrgaze_ray.models.predictor import Predictor

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

PREDICTORS_KEPT = 2
"""Bundles a replica holds: the one in use, and the one it is being switched to."""

MAX_ONGOING = 32
"""Calls a replica takes on at once. A batch job keeps two in flight per replica; the rest is for single requests."""

BEGIN_WITHIN_S = 60.0
"""Longest time that a starting replica waits for the registry, and then for the bundle, in seconds."""


class Brief(Record):
    """A batch job's instructions to every replica: the deployment's `user_config`."""

    pin: ModelPin
    engine: str


@serve.deployment(name="Model", max_ongoing_requests=MAX_ONGOING)
class Model:
    """Holds predictors by weights hash and engine; every call names both, so a run never meets other weights."""

    async def __init__(self, settings: ComputeSettings, served: Served | None = None) -> None:  # type: ignore[misc]
        from cxrgaze_ray.models.predictor import limit_threads

        start_logging()
        limit_threads(settings.threads)
        self._settings = settings
        self._predictors: OrderedDict[tuple[str, str], Predictor] = OrderedDict()
        self._planned: dict[tuple[str, EngineKind], str] = {}
        self._loading = asyncio.Lock()
        # One thread computes; the replica's event loop stays free for health checks.
        self._lanes = Lanes()
        self._meters: dict[str, DeviceMeter] = {}
        self._waiting = {False: telemetry.Waiting("batch_call"), True: telemetry.Waiting("urgent_call")}
        if served is not None:
            await self._begin_with(served)

    async def _begin_with(self, served: Served) -> None:
        """Load the served model, if it can be found and read by now: else the ingress loads it as soon as possible."""
        with contextlib.suppress(CxrgazeError, TimeoutError):
            pin = await asyncio.wait_for(asyncio.to_thread(pin_model, served.registry, served.model), BEGIN_WITHIN_S)
            await asyncio.wait_for(self.plan_engine(pin, served.engine), BEGIN_WITHIN_S)

    async def reconfigure(self, brief: dict[str, Any]) -> None:
        """Load the model a batch job scores with. Serve calls this before it counts a replica as ready."""
        wanted = Brief.model_validate(brief)
        await self.warm(wanted.pin, wanted.engine)

    async def plan_engine(self, pin: ModelPin, kind: EngineKind) -> str:
        """Return the name of the engine that this replica uses for a bundle and a kind, and load the bundle with it."""
        key = (pin.answers, kind)
        if key not in self._planned:
            async with self._loading:  # calls that come meanwhile share this load
                if key not in self._planned:
                    predictor = await asyncio.to_thread(_plan, pin, kind, self._settings.device)
                    self._planned[key] = predictor.engine.name
                    self._keep((pin.answers, predictor.engine.name), predictor)
                    event(_LOG, "model loaded", version=pin.version, engine=predictor.engine.name)
        return self._planned[key]

    async def warm(self, pin: ModelPin, engine: str) -> None:
        """Load a bundle and run it once, so that the next call waits for neither."""
        key = (pin.answers, engine)
        if key in self._predictors:
            self._predictors.move_to_end(key)
            return
        await self._predictor(pin, engine)

    async def held(self) -> list[tuple[str, str]]:
        """Return `ModelPin.answers` and engine of every predictor held here, the most recently used one last."""
        return list(self._predictors)

    async def predict(
        self, images_bhw: NDArray[np.uint16], pin: ModelPin, engine: str, *, urgent: bool = False, cam: bool = False
    ) -> StoredPredictions:
        """Score ready images; maps are returned as they are stored.

        Parameters
        ----------
        images_bhw
            uint16 (B, 640, 512) of the bundle's profile; give a chunk as a reference to the object store.
        pin, engine
            The weights and the engine to use.
        urgent
            Whether a person waits: then it goes before batch jobs' chunks, and between the network batches of one.
        cam
            Add Grad-CAM of DenseNet's own head.

        Raises
        ------
        BundleError
            If the bundle at the pin's URI no longer has those weights, or has no DenseNet for `cam`.
        """
        predictor = await self._predictor(pin, engine)
        between = None if urgent else self._lanes.let_urgent_pass
        telemetry.record(table.MODEL_CALL_IMAGES, len(images_bhw), lane="urgent" if urgent else "batch")
        with self._waiting[urgent]:
            return await self._compute(self._timed, predictor, images_bhw, between, cam, urgent=urgent)

    async def _compute(self, function: Callable[..., T], *args: object, urgent: bool) -> T:
        # cancelled with its caller: a piece still waiting for its turn is then never computed
        return await asyncio.wrap_future(self._lanes.submit(function, *args, urgent=urgent))

    def _timed(
        self,
        predictor: Predictor,
        images_bhw: NDArray[np.uint16],
        between: Callable[[], None] | None,
        cam: bool,
    ) -> StoredPredictions:
        engine, others = predictor.engine, 0.0

        def let_others() -> None:
            nonlocal others
            if between is not None:
                paused = time.perf_counter()
                between()
                others += time.perf_counter() - paused

        start = time.perf_counter()
        answers = predictor.predict_stored(images_bhw, let_others, cam=cam)
        seconds = time.perf_counter() - start - others
        telemetry.record(table.MODEL_SECONDS, seconds, engine=engine.name)
        telemetry.record(table.MODEL_BATCH, predictor.batch, engine=engine.name)
        self._meters.setdefault(engine.device, DeviceMeter("serve", engine.device)).computed(seconds)
        return answers

    async def _predictor(self, pin: ModelPin, engine: str) -> Predictor:
        key = (pin.answers, engine)
        if key not in self._predictors:
            async with self._loading:  # calls that come meanwhile share this load; those for bundles already held go on
                if key not in self._predictors:
                    self._keep(key, await asyncio.to_thread(_load, pin, engine))
                    event(_LOG, "model loaded", version=pin.version, engine=engine)
        self._predictors.move_to_end(key)
        return self._predictors[key]

    def _keep(self, key: tuple[str, str], predictor: Predictor) -> None:
        self._predictors[key] = predictor
        while len(self._predictors) > PREDICTORS_KEPT:
            self._predictors.popitem(last=False)


def _load(pin: ModelPin, engine: str) -> Predictor:
    """Read a bundle and run it once, off the computing thread, which goes on with the bundle in use."""
    from cxrgaze_ray.models.engines.engine import Engine
    from cxrgaze_ray.models.predictor import Predictor

    predictor = Predictor.from_bundle(_pinned(pin), Engine.parse(engine))
    predictor.predict(np.zeros((1, HEIGHT, WIDTH), np.uint16))
    return predictor


def _plan(pin: ModelPin, kind: EngineKind, device: DeviceName) -> Predictor:
    """Read a bundle and put it on the best engine of a kind that works here; off the computing thread, as `_load`."""
    from cxrgaze_ray.models.predictor import predictor_for

    return predictor_for(_pinned(pin), kind, device)


def _pinned(pin: ModelPin) -> Bundle:
    bundle = read_bundle(open_store(pin.uri))
    if (bundle.info.weights_sha256, bundle.info.temperature) != (pin.weights_sha256, pin.temperature):
        what = f"{pin.name}@{pin.version} no longer has the weights or the temperature it was pinned to."
        raise BundleError(what, "Restore its bundle, or begin a new run: --new.")
    return bundle
