"""Calls of a batch job to the model deployment, which outlast replicas that come and go. Loads no torch."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray import serve

from cxrgaze_ray.cluster.connection import lost_replica
from cxrgaze_ray.errors import ServingUnavailable
from cxrgaze_ray.models.predictions import StoredPredictions
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.telemetry.logs import event

_LOG = logging.getLogger(__name__)

OUTAGE_S = 180.0
"""How long a chunk waits in all without a running replica, in seconds. A silent node is given up by Ray after about
65 s and a replica elsewhere needs up to a minute; the time that replicas spend computing does not count."""

LOOK_EVERY_S = 5.0
"""How often a chunk that waits has a look whether any replica runs, in seconds."""

PAUSE_S = 2.0
"""Between losing a replica and asking again, in seconds."""


class ModelCalls:
    """Scores chunks with one bundle on one engine.

    Parameters
    ----------
    application
        Serve application whose deployment ``Model`` is called.
    pin, engine
        What the deployment is to use.
    cam
        Whether to ask for Grad-CAM too.
    """

    def __init__(self, application: str, pin: ModelPin, engine: str, *, cam: bool = False) -> None:
        self._application, self._pin, self._engine, self._cam = application, pin, engine, cam
        self._handle = serve.get_deployment_handle("Model", application)

    def predict(self, images_bhw: NDArray[np.uint16]) -> StoredPredictions:
        """Score a chunk, see `Predictor.predict`. It travels by reference: written once, however often it is sent.

        Raises
        ------
        ServingUnavailable
            If there was no running replica for `OUTAGE_S` in all.
        """
        # The decoded block holds these pixels in the object store already; this is a second copy. Ray Data gives a
        # stage the block's values, never its reference. A reference that the decoding actor made itself would be lost
        # with that actor, and Ray Data, which bounds what lies between the stages, would not count its bytes.
        reference, outage = ray.put(images_bhw), _Outage()
        response = self._send(reference)
        while True:
            try:
                result: StoredPredictions = response.result(timeout_s=LOOK_EVERY_S)
            except TimeoutError:
                if not self._runs():
                    outage.add(LOOK_EVERY_S)
            except Exception as error:
                if not lost_replica(error):
                    raise
                event(_LOG, "replica lost, asking again", logging.WARNING, images=len(images_bhw))
                outage.add(PAUSE_S)
                time.sleep(PAUSE_S)
                response = self._send(reference)
            else:
                return result

    def _send(self, reference: ray.ObjectRef[Any]) -> Any:
        return self._handle.predict.remote(reference, self._pin, self._engine, cam=self._cam)

    def _runs(self) -> bool:
        """Whether any replica runs, as far as Serve's controller knows."""
        try:
            application = serve.status().applications.get(self._application)
        except Exception as error:
            if not lost_replica(error):
                raise
            return False
        model = application.deployments.get("Model") if application else None
        return model is not None and "RUNNING" in model.replica_states


class _Outage:
    """Adds up how long there was no model."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        self._seconds += seconds
        if self._seconds >= OUTAGE_S:
            raise ServingUnavailable("The model deployment lost its replicas.", "Run the same command again.")
