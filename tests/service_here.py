"""The HTTP service in this process: its real routes, decoders and network, without Ray between them."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI

from cxrgaze_ray.http.refusals import Refused, refuse
from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.predictions import StoredPredictions
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.settings import System, architecture
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.radiograph.decoding import Decoded, Decoder
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.serving.decoder_pool import DecoderPool
from cxrgaze_ray.serving.replies import Serving


class ServiceHere:
    """Stands for the ingress: it has a model from the start, and asks it in a thread.

    Attributes
    ----------
    serving
        None stands for a service whose model is not loaded yet.
    lost
        Pictures after which the model is lost, as if its replica had died; None for never.
    reached
        False stands for a service whose replicas are gone.
    """

    def __init__(self, system: System = "gazenet", decoders: int = 2) -> None:
        bundle = make_bundle(build(architecture(system, "tiny"), 5), "cxrgaze", trained=True)
        self._predictor = Predictor.from_bundle(bundle)
        pin = ModelPin(uri="/r", name="cxrgaze", version="v0001", weights_sha256="ab" * 32, trained=True)
        self._decoders = [Decoder("cxrgaze-v1", reading=Reading(frontal_only=True)) for _ in range(decoders)]
        pool = DecoderPool(decoders, partial(next, iter(self._decoders)))
        self.serving: Serving | None = Serving(pin, self._predictor.engine.name, bundle.info, pool)
        self.lost: int | None = None
        self.reached = True
        self.asked = 0

    async def ask(self, decoded: Decoded, serving: Serving, *, cam: bool) -> StoredPredictions:
        """Score one picture."""
        self.asked += 1
        if self.lost is not None and self.asked > self.lost:
            raise Refused(refuse(503, "The model is not available just now; try again.", "model_unavailable"))
        return await asyncio.to_thread(self._predictor.predict_stored, decoded.pixels[None], cam=cam)

    def close(self) -> None:
        """End the decoding processes."""
        for decoder in self._decoders:
            decoder.close()


@contextmanager
def listening(api: FastAPI) -> Iterator[str]:
    """Serve an application on a free port of this machine, and yield its URL."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        server = uvicorn.Server(uvicorn.Config(api, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([door],))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
