"""The model deployment: batches of ready images in, probabilities and saliency out."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from ray import serve

from cxrgaze_ray import telemetry
from cxrgaze_ray.bundle import read_bundle
from cxrgaze_ray.config import Settings
from cxrgaze_ray.errors import BundleError
from cxrgaze_ray.predictions import Predictions
from cxrgaze_ray.predictor import Engine, Predictor, limit_threads, plan_engine
from cxrgaze_ray.runs import ModelPin
from cxrgaze_ray.schemas import HEIGHT, WIDTH
from cxrgaze_ray.storage import open_store

T = TypeVar("T")

PREDICTORS_KEPT = 2
"""Bundles a replica holds: the one in use, and the one it is being switched to."""


class ModelSettings(Settings):
    """How a replica computes."""

    threads: int | None = None
    """CPU threads of a forward pass; None takes every core."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where a replica computes; auto takes the GPU that Ray gave it, if it gave one."""


@serve.deployment(name="Model", max_ongoing_requests=8)
class Model:
    """Holds predictors by weights hash and engine; every call names both, so a run never meets other weights."""

    def __init__(self, settings: ModelSettings) -> None:
        limit_threads(settings.threads)
        self._settings = settings
        self._predictors: OrderedDict[tuple[str, str], Predictor] = OrderedDict()
        # One thread: forward passes queue here, and the replica's event loop stays free for health checks.
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def plan_engine(self, kind: Literal["auto", "float32", "fast"]) -> str:
        """Return the name of the engine that this replica's hardware runs a kind with."""
        return plan_engine(kind, self._settings.device).name

    async def warm(self, pin: ModelPin, engine: str) -> None:
        """Load a bundle and run it once, so that the next call pays for neither."""
        await self._run(self._warm, pin, engine)

    async def predict(self, images_bhw: NDArray[np.uint16], pin: ModelPin, engine: str) -> Predictions:
        """Score ready images.

        Parameters
        ----------
        images_bhw
            uint16 (B, 640, 512) of the bundle's profile.
        pin, engine
            The weights and the engine to use.

        Raises
        ------
        BundleError
            If the bundle at the pin's URI no longer has those weights.
        """
        return await self._run(self._predict, images_bhw, pin, engine)

    async def _run(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._compute, function, *args)

    def _warm(self, pin: ModelPin, engine: str) -> None:
        self._predictor(pin, engine).predict(np.zeros((1, HEIGHT, WIDTH), np.uint16))

    def _predict(self, images_bhw: NDArray[np.uint16], pin: ModelPin, engine: str) -> Predictions:
        predictor = self._predictor(pin, engine)
        start = time.perf_counter()
        predictions = predictor.predict(images_bhw)
        telemetry.record(telemetry.MODEL_SECONDS, time.perf_counter() - start, bundle=pin.version)
        return predictions

    def _predictor(self, pin: ModelPin, engine: str) -> Predictor:
        key = (pin.weights_sha256, engine)
        if key not in self._predictors:
            bundle = read_bundle(open_store(pin.uri))
            if bundle.info.weights_sha256 != pin.weights_sha256:
                raise BundleError(f"{pin.name}@{pin.version} no longer has the weights it was pinned to.")
            self._predictors[key] = Predictor.from_bundle(bundle, Engine.parse(engine))
            while len(self._predictors) > PREDICTORS_KEPT:
                self._predictors.popitem(last=False)
        self._predictors.move_to_end(key)
        return self._predictors[key]
