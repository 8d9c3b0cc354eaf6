"""The model deployment of a batch job: the running application's, or one that the job starts."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeVar

import ray
from pydantic import Field, model_validator
from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

from cxrgaze_ray.cluster.connection import lost_replica, translated
from cxrgaze_ray.cluster.ray_internals import dead_jobs, same_version
from cxrgaze_ray.config import EngineKind
from cxrgaze_ray.config.serve_file import APPLICATION, ComputeSettings
from cxrgaze_ray.errors import EnvironmentFault
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.serving.model import MAX_ONGOING, Brief, Model

T = TypeVar("T")

BATCH_PREFIX = "cxrgaze-batch-"
CALLS_A_REPLICA = 2
"""Chunks a batch job keeps in flight for every replica: one is computed while the next one travels."""

AWAITED_S = 120.0
"""Longest wait for the running application's replicas, in seconds."""

LOOK_BACK_S = 4.0
"""Time over which Serve averages the calls in flight before it adds or removes a replica, in seconds."""


class ModelSettings(ComputeSettings):
    """The replicas of a batch job's own application; where one is running already, its own settings hold."""

    min_replicas: int = Field(1, ge=1, le=10_000)
    """Least replicas, from the start."""

    max_replicas: int = Field(1, ge=1, le=10_000)
    """Most replicas; Serve adds them while chunks wait."""

    cpus: float = Field(1.0, ge=0, le=10_000)
    """Logical CPUs of a replica."""

    gpus: float | None = Field(None, ge=0, le=1000)
    """GPUs of a replica, 0.5 for two replicas on one; None takes one where the cluster has any."""

    upscale_delay_s: float = Field(3.0, ge=0, le=86_400)
    """Seconds that chunks must have waited before a replica is added."""

    downscale_delay_s: float = Field(60.0, ge=0, le=86_400)
    """Seconds that a replica must have been idle before it is removed."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError("max_replicas must be no less than min_replicas")
        return self


@dataclass(frozen=True)
class BatchModel:
    """A model deployment that a batch job sends its chunks to.

    Attributes
    ----------
    application
        Name of the Serve application; its deployment is ``Model``.
    replicas
        Most replicas that it may ever have.
    """

    application: str
    replicas: int = 1
    _brief_own: Callable[[dict[str, Any]], None] | None = None

    @property
    def handle(self) -> DeploymentHandle[Any]:
        """Handle of the deployment."""
        return serve.get_deployment_handle("Model", self.application)

    def plan_engine(self, pin: ModelPin, kind: EngineKind) -> str:
        """Return the name of the engine that the replicas' hardware uses for a bundle and a kind."""
        with translated():
            engine: str = off_the_loop(lambda: self.handle.plan_engine.remote(pin, kind).result())
        return engine

    def warm(self, pin: ModelPin, engine: str) -> None:
        """Have every replica load a bundle and run it once, so that the first chunk waits for neither.

        Replicas of the job's own application that start later do so before Serve counts them as ready.
        """
        with translated():
            try:
                if self._brief_own is None:
                    off_the_loop(lambda: self.handle.broadcast("warm", pin, engine).results())
                else:  # one first: what it raises, Serve would bury in a deployment that failed
                    off_the_loop(lambda: self.handle.warm.remote(pin, engine).result())
            except Exception as error:
                if not lost_replica(error):  # its replacement loads the bundle with its first chunk
                    raise
            if self._brief_own is not None:
                self._brief_own(Brief(pin=pin, engine=engine).model_dump())


def off_the_loop(ask: Callable[[], T]) -> T:
    """Return what a call of Serve returns, on another thread if this one has an event loop.

    A notebook runs its cells on one, and waits for them all the same; Serve refuses to wait there.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return ask()
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(ask).result()


@contextmanager
def batch_model(settings: ModelSettings | None = None, gpus_in_cluster: float = 0) -> Iterator[BatchModel]:
    """Yield the model deployment: the running application's, else one without HTTP that ends with the job.

    A killed job could not remove its application; the next job does.

    Raises
    ------
    EnvironmentFault
        If the running application has no replica of the model, and gets none within two minutes.
    """
    settings = settings or ModelSettings()
    if replicas := await_replicas():
        yield BatchModel(APPLICATION, replicas)
        return
    _remove_abandoned(list(serve.status().applications))
    serve.start(proxy_location="Disabled")
    name = f"{BATCH_PREFIX}{ray.get_runtime_context().get_job_id()}-{secrets.token_hex(4)}"
    deploy = partial(_deploy, name, _deployment(settings, gpus_in_cluster), settings)
    try:
        deploy(None)
        yield BatchModel(name, settings.max_replicas, deploy)
    finally:
        serve.delete(name)


def await_replicas() -> int:
    """Return how many replicas of the model the application has, once one of them runs; 0 if there is no application.

    One that is just being deployed, restarted or removed may have none for a while.

    Raises
    ------
    EnvironmentFault
        If that takes longer than `AWAITED_S`, or its deployment has failed.
    """
    end = time.monotonic() + AWAITED_S
    while (application := serve.status().applications.get(APPLICATION)) is not None:
        model = application.deployments.get("Model")
        states: Mapping[Any, int] = model.replica_states if model else {}  # the keys are words too
        if running := states.get("RUNNING"):
            return running + states.get("STARTING", 0)
        if application.status == ApplicationStatus.DEPLOY_FAILED or time.monotonic() > end:
            raise EnvironmentFault(
                f"The application {APPLICATION} of the cluster has no replica: it is {application.status.value}.",
                "Look at `serve status`. Deploy it again, or `serve shutdown`; then give the command again.",
            )
        time.sleep(0.5)
    return 0


def _deploy(name: str, deployment: serve.Deployment, settings: ModelSettings, brief: dict[str, Any] | None) -> None:
    """Deploy, or hand out a brief: the same version with another `user_config` leaves the replicas running."""
    serve.run(same_version(deployment, name, brief).bind(settings), name=name, route_prefix=None)


def _deployment(settings: ModelSettings, gpus_in_cluster: float) -> serve.Deployment:
    gpus = settings.gpus if settings.gpus is not None else float(gpus_in_cluster > 0)
    return Model.options(  # type: ignore[attr-defined, no-any-return]
        **_replicas(settings),
        max_ongoing_requests=max(MAX_ONGOING, (CALLS_A_REPLICA + 1) * settings.max_replicas),
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": gpus},
    )


def _replicas(settings: ModelSettings) -> dict[str, Any]:
    if settings.max_replicas <= settings.min_replicas:
        return {"num_replicas": settings.min_replicas}
    scaling = {
        "min_replicas": settings.min_replicas,
        "max_replicas": settings.max_replicas,
        "target_ongoing_requests": float(CALLS_A_REPLICA),
        "upscale_delay_s": settings.upscale_delay_s,
        "downscale_delay_s": settings.downscale_delay_s,
        "look_back_period_s": LOOK_BACK_S,
        "metrics_interval_s": LOOK_BACK_S / 4,
    }
    return {"autoscaling_config": scaling}


def _remove_abandoned(applications: list[str]) -> None:
    """Remove what killed jobs left behind: their replicas would hold their GPUs for ever."""
    abandoned = dead_jobs()
    for name in applications:
        if name.startswith(BATCH_PREFIX) and name.removeprefix(BATCH_PREFIX).partition("-")[0] in abandoned:
            serve.delete(name)
