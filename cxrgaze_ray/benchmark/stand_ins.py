"""What stands in for parts of scoring to show the rest alone: models that do not compute, decoding that is none.

Each has the interface of what it stands for, so scoring needs to know of none.
"""

# ruff: noqa: ARG002  what stands in takes the same arguments

from __future__ import annotations

import asyncio
import sys
import threading
import time
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.intake import Intake
from cxrgaze_ray.models.predictions import Predictions, StoredMaps, StoredPredictions, stored
from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.schemas import HEIGHT, WIDTH
from cxrgaze_ray.scoring.decode import DecodeChunk
from cxrgaze_ray.scoring.score import ScoreChunk

NETWORK_BATCH = 16
"""Images that an accelerator takes at a time, as `Predictor` does on one."""


@cache
def canned_density() -> NDArray[np.float32]:
    """Return a density (640, 512) of three places looked at: its PNG has a real map's size."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    peaks = ((200, 150), (300, 350), (420, 200))
    total = sum(np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / 4000) for at_y, at_x in peaks)
    density: NDArray[np.float32] = (total / np.sum(total)).astype(np.float32)
    return density


@cache
def canned(images: int) -> StoredPredictions:
    """Return the same answer for each of so many images, as the model deployment sends it."""
    logits = np.tile(np.array([0.5, 0.1, -0.2], np.float32), (images, 1))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return stored(Predictions(logits, probabilities, np.tile(canned_density(), (images, 1, 1))))


@serve.deployment(name="Model", max_ongoing_requests=8)
class NoopModel:
    """Answers at once, and always the same."""

    async def predict(
        self, images_bhw: NDArray[np.uint16], pin: ModelPin, engine: str, *, cam: bool = False
    ) -> StoredPredictions:
        """Stand for `serving.Model.predict`."""
        return canned(len(images_bhw))


@serve.deployment(name="Model", max_ongoing_requests=8)
class WaitingModel:
    """Waits as long as an accelerator would compute, one network batch after the other, and takes no core meanwhile."""

    def __init__(self, batch_s: float) -> None:
        self._batch_s = batch_s
        self._busy = asyncio.Lock()

    async def predict(
        self, images_bhw: NDArray[np.uint16], pin: ModelPin, engine: str, *, cam: bool = False
    ) -> StoredPredictions:
        """Stand for `serving.Model.predict`."""
        async with self._busy:
            # to a point in time: what a sleep takes too long, the next one makes up for
            end = time.monotonic() + self._batch_s * -(-len(images_bhw) // NETWORK_BATCH)
            while (left := end - time.monotonic()) > 0:
                await asyncio.sleep(left)
        return canned(len(images_bhw))


class DirectModel:
    """Stands for `scoring.model_calls.ModelCalls`: the predictor itself, in the actor that asks it."""

    def __init__(self, pin: ModelPin, engine: str, threads: int) -> None:
        from cxrgaze_ray.models.bundle import read_bundle  # torch: only where the model is
        from cxrgaze_ray.models.engines.engine import Engine
        from cxrgaze_ray.models.predictor import Predictor, limit_threads
        from cxrgaze_ray.storage import open_store

        limit_threads(threads)
        self._predictor = Predictor.from_bundle(read_bundle(open_store(pin.uri)), Engine.parse(engine))
        self._one = threading.Lock()

    def predict(self, images_bhw: NDArray[np.uint16]) -> StoredPredictions:
        """Score a chunk; one forward pass at a time, as in a replica."""
        with self._one:
            return self._predictor.predict_stored(images_bhw)


def score_directly(threads: int) -> type[ScoreChunk]:
    """Return a second stage that has the predictor in its own actors: the same rows without Serve."""

    class ScoreDirectly(ScoreChunk):
        def __init__(self, spec: Any, _application: str) -> None:
            self._spec, self._model = spec, DirectModel(spec.model, spec.engine, threads)

    return ScoreDirectly


class NoopDecode(DecodeChunk):
    """Fetches each file and asks an isolated process for its image, as ever; but the process answers at once."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        decoder = Decoder(command=(sys.executable, "-P", "-m", "cxrgaze_ray.benchmark.noop_decoding"))
        self._intake = Intake(self._spec.profile, Reading(), Identities(), decoder)


class SimulatedDecode(DecodeChunk):
    """No file, no process, no pixels: rows with facts as a hospital's have them."""

    def _decode_row(self, planned: dict[str, Any]) -> tuple[dict[str, Any], None]:
        names = ("shard", "position", "image_id", "subject_id", "study_id", "repeated_id")
        return {name: planned[name] for name in names} | _FACTS, None


_FACTS: dict[str, Any] = {
    "affine": {"scale_y": 0.2, "scale_x": 0.2, "offset_y": 14.4, "offset_x": 1.6, "rows": 3056, "columns": 2544},
    "view_position": "PA",
    "view_source": "tag",
    "photometric": "MONOCHROME2",
    "photometric_check": "agrees",
    "transfer_syntax": "1.2.840.10008.1.2.1",
    "decode": "full",
    "bits_stored": 12,
    "rows": 3056,
    "columns": 2544,
    "manufacturer": "Maker",
    "device_model": "Detector 9",
    "sex": "F",
    "age_band": "60-69",
    "intensity_p1": 0.01,
    "intensity_p50": 0.45,
    "intensity_p99": 0.97,
    "intensity_mean": 0.44,
}


def score_simulated(map_bytes: int) -> type[ScoreChunk]:
    """Return a second stage that asks the model with empty images, and gives each row a map of so many bytes.

    The bytes are noise: Parquet can't make them smaller, as it can't a real map's PNG.
    """

    class ScoreSimulated(ScoreChunk):
        def _images(self, buffer: Any, count: int) -> NDArray[np.uint16]:
            return np.zeros((count, 0, 0), np.uint16)

        def _maps(self, maps: StoredMaps) -> list[tuple[bytes, float]]:
            noise = np.random.default_rng().bytes(map_bytes * len(maps.peak_B))
            return [(noise[at * map_bytes : (at + 1) * map_bytes], peak) for at, peak in enumerate(maps.peak_B)]

    return ScoreSimulated


@serve.deployment(name="Model", max_ongoing_requests=8)
class MaplessModel:
    """Answers at once, without maps."""

    async def predict(
        self, images_bhw: NDArray[np.uint16], pin: ModelPin, engine: str, *, cam: bool = False
    ) -> StoredPredictions:
        """Stand for `serving.Model.predict`."""
        full = canned(len(images_bhw))
        none = StoredMaps(np.zeros((len(images_bhw), 0, 0), np.uint8), np.full(len(images_bhw), 1e-4, np.float32))
        return StoredPredictions(full.logits_BK, full.probabilities_BK, none)
