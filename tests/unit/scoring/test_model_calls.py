"""Calls to the model outlast replicas that go away, and end when none comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray import exceptions
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException

from cxrgaze_ray.errors import ServingUnavailable, StoreUnavailable
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.scoring.model_calls import LOOK_EVERY_S, OUTAGE_S, PAUSE_S, ModelCalls

PIN = ModelPin(uri="file:///b", name="cxrgaze", version="v0001", weights_sha256="0" * 64, trained=False)
IMAGES = np.zeros((2, 640, 512), np.uint16)


class Deployment:
    """Stands for Serve: each look at a response takes the next event, an error or the answer."""

    def __init__(self, events: Iterator[object], running: Callable[[], bool]) -> None:
        self._events, self._running = events, running
        self.sent: list[object] = []
        self.predict = self

    def remote(self, reference: object, pin: ModelPin, engine: str, *, cam: bool) -> Deployment:
        assert not cam
        self.sent.append(reference)
        return self

    def result(self, timeout_s: float) -> object:
        event = next(self._events)
        if isinstance(event, Exception):
            raise event
        return event

    def status(self) -> Any:
        state = "RUNNING" if self._running() else "STARTING"  # plain text, whatever its type says
        model = SimpleNamespace(replica_states={state: 1})
        return SimpleNamespace(applications={"app": SimpleNamespace(deployments={"Model": model})})


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Deployment, Callable[[], object]]]:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("ray.put", lambda images: "reference")

    def ask(events: Iterator[object], running: Callable[[], bool] = lambda: True) -> Any:
        deployment = Deployment(events, running)
        monkeypatch.setattr("ray.serve.get_deployment_handle", lambda *_: deployment)
        monkeypatch.setattr("ray.serve.status", deployment.status)
        calls = ModelCalls("app", PIN, "reference-float32-cpu")
        return deployment, lambda: calls.predict(IMAGES)

    return ask


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ActorDiedError(),
        exceptions.ActorUnavailableError("gone", None),
        exceptions.NodeDiedError("gone"),  # type: ignore[no-untyped-call]
        exceptions.OwnerDiedError("0" * 56, None, ""),
        RayServeException("no replica"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lost_replica_is_asked_again_with_what_is_written_once(ask: Any, error: Exception) -> None:
    deployment, predict = ask(iter([error, error, "answer"]))
    assert predict() == "answer"
    assert deployment.sent == ["reference"] * 3


def test_a_replica_may_compute_for_as_long_as_it_needs(ask: Any) -> None:
    looks = int(3 * OUTAGE_S / LOOK_EVERY_S)
    deployment, predict = ask(iter([exceptions.GetTimeoutError("slow")] * looks + ["answer"]))
    assert predict() == "answer"
    assert deployment.sent == ["reference"]


def test_it_ends_when_no_replica_comes(ask: Any) -> None:
    def waiting() -> Iterator[Exception]:
        while True:
            yield TimeoutError()

    looks = iter(range(1000))
    _, predict = ask(waiting(), running=lambda: next(looks) < 0)
    with pytest.raises(ServingUnavailable, match="lost its replicas"):
        predict()
    assert next(looks) == pytest.approx(OUTAGE_S / LOOK_EVERY_S, abs=1)


def test_it_ends_when_every_replica_is_lost(ask: Any) -> None:
    def losing() -> Iterator[Exception]:
        while True:
            yield DeploymentUnavailableError(SimpleNamespace(name="Model", app_name="app"))  # type: ignore[arg-type]

    deployment, predict = ask(losing())
    with pytest.raises(ServingUnavailable):
        predict()
    assert len(deployment.sent) == pytest.approx(OUTAGE_S / PAUSE_S, abs=1)


@pytest.mark.parametrize("error", [StoreUnavailable("The store is away."), ZeroDivisionError()])
def test_what_the_replica_says_of_itself_is_not_asked_again(ask: Any, error: Exception) -> None:
    deployment, predict = ask(iter([error]))
    with pytest.raises(type(error)):
        predict()
    assert len(deployment.sent) == 1
