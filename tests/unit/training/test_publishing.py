"""Training with --promote does not pass the gate by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from cxrgaze_ray.cluster.connection import Connect, kept
from cxrgaze_ray.errors import RegistryError
from cxrgaze_ray.models.bundle import Bundle, make_bundle, read_info
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import Trainable
from cxrgaze_ray.storage import LocalStore, open_store
from cxrgaze_ray.training import publishing
from cxrgaze_ray.training.publishing import train_and_publish
from cxrgaze_ray.training.settings import TrainSettings
from tests.labelled_store import write_store


def trained(seed: int) -> Bundle:
    return make_bundle(build(PRESETS["tiny"], seed), "cxrgaze", trained=True)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(LocalStore(str(tmp_path / "registry")))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have training give another bundle each time, and note each."""
    made: list[int] = []

    def run(*_: object, **__: object) -> Bundle:
        made.append(len(made) + 1)
        return trained(made[-1])

    monkeypatch.setattr(publishing, "run_stages", run)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Trainable:
    return cast("Trainable", write_store(tmp_path / "store", {"train": 1}))


def test_the_first_champions_need_no_reason_and_a_judged_one_does(
    registry: Registry, runs: list[int], store: Trainable
) -> None:
    settings, said = TrainSettings.for_preset("tiny"), list[str]()
    for _ in range(2):
        train_and_publish(store, settings, registry, promote=True)
    assert (registry.aliases("cxrgaze"), registry.history("cxrgaze")[-1].reason) == ({"champion": "v0002"}, "trained")
    registry.record_gate("cxrgaze", "v2", "accepted", "gates/1.json", "-")
    with pytest.raises(RegistryError, match="judged by no gate, and takes the place of v0002"):
        train_and_publish(store, settings, registry, promote=True)
    assert runs == [1, 2], "told before the training"
    train_and_publish(store, settings, registry, promote=True, reason="the gate's data were wrong", say=said.append)
    assert registry.aliases("cxrgaze") == {"champion": "v0003"}
    assert registry.history("cxrgaze")[-1].reason == "the gate's data were wrong"
    assert said[-1] == "cxrgaze@v0003 was judged by no gate, and takes the place of v0002, which a gate judged."


def test_a_champion_that_is_judged_while_it_trains_stays(
    registry: Registry, runs: list[int], store: Trainable, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.promote("cxrgaze", registry.publish(trained(7)).version)

    def run(*_: object, **__: object) -> Bundle:
        registry.record_gate("cxrgaze", "v1", "accepted", "gates/1.json", "-")
        return trained(8)

    monkeypatch.setattr(publishing, "run_stages", run)
    with pytest.raises(RegistryError, match="cxrgaze@v0002 was judged by no gate"):
        train_and_publish(store, TrainSettings.for_preset("tiny"), registry, promote=True)
    assert (registry.aliases("cxrgaze"), registry.versions("cxrgaze")) == ({"champion": "v0001"}, ("v0001", "v0002"))


def test_training_and_evaluation_share_one_cluster(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    @contextmanager
    def connect() -> Iterator[None]:
        events.append("joined")
        yield
        events.append("left")

    def run(*_: object, connect: Connect, **__: object) -> Bundle:
        with connect():
            events.append("trained")
        return trained(1)

    monkeypatch.setattr(publishing, "run_stages", run)
    monkeypatch.setattr("cxrgaze_ray.models.predictor.limit_threads", lambda _: events.append("predicted"))
    store = cast("Trainable", write_store(tmp_path / "store", {"train": 1, "test": 1}))
    pin = train_and_publish(store, TrainSettings.for_preset("tiny"), registry, connect=connect)
    assert events == ["joined", "trained", "predicted", "left"]
    assert read_info(open_store(pin.uri)).metrics["images"] == 1


def test_a_cluster_that_nothing_needs_is_not_joined() -> None:
    with kept(lambda: pytest.fail("joined")) as join:
        assert callable(join)
