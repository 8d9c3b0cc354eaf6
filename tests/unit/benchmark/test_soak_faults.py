"""What a soak does to a service, in order, and when it takes each fault for over."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any, cast

import pytest

from cxrgaze_ray.benchmark.soak import faults
from cxrgaze_ray.benchmark.soak.cluster import INGRESS, MODEL
from cxrgaze_ray.benchmark.soak.faults import Event, Stage
from cxrgaze_ray.benchmark.soak.requests import Kind
from cxrgaze_ray.benchmark.soak.traffic import Answer
from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.storage import LocalStore

PICTURE = Kind("JPEG", b"", 200)


class Followed:
    """Clients of a service that follows the registry, if it does: each look at their answers brings new ones."""

    def __init__(self, registry: Path, follows: bool = True) -> None:
        self._registry, self._follows = registry, follows
        self.away = 0
        self.last = "v0001"

    @property
    def answers(self) -> list[Answer]:
        if not self._registry.exists():
            self.away += 1
        elif self._follows:
            self.last = Registry(LocalStore(str(self._registry))).resolve("cxrgaze@champion").version
        now = time.monotonic()
        return [Answer(now, now, PICTURE, 200, version=self.last) for _ in range(20)]


class Killed:
    """Nodes that note what is done to them."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def kill(self) -> int:
        self.done.append("kill")
        return 1

    def add(self) -> None:
        self.done.append("add")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(faults, "_GIVE_UP_S", 0.3)
    monkeypatch.setattr(faults, "_SETTLE_S", 0.0)
    folder = tmp_path / "registry"
    ledger = Registry(LocalStore(str(folder)))
    for seed in (5, 6):
        ledger.publish(make_bundle(build(PRESETS["tiny"], seed), "cxrgaze", trained=False))
    ledger.promote("cxrgaze", "v0001")
    return folder


def stage(registry: Path, traffic: Any, nodes: Any = None) -> Stage:
    return Stage(traffic, cast("Any", nodes), registry, ("v0001", "v0002"), 0.01, lambda _: None)


def champion(registry: Path) -> str:
    return Registry(LocalStore(str(registry))).resolve("cxrgaze@champion").version


def test_a_champion_moves_and_moves_back(registry: Path) -> None:
    acted = stage(registry, Followed(registry))
    acted.move_champion()
    assert [(one.event, one.over) for one in acted.windows] == [(Event.CHAMPION, True)]
    actions = [entry.action for entry in Registry(LocalStore(str(registry))).ledger("cxrgaze").read().entries]
    assert actions == ["publish", "publish", "promote", "promote", "rollback"]
    assert champion(registry) == "v0001"


def test_a_service_that_does_not_follow_is_not_waited_for_for_ever(registry: Path) -> None:
    acted = stage(registry, Followed(registry, follows=False))
    acted.lose_store()
    (window,) = acted.windows
    assert not window.over
    assert champion(registry) == "v0001", "the registry is back where it was"


def test_the_store_is_away_before_the_champion_moves(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = Followed(registry)
    monkeypatch.setattr(time, "sleep", lambda _: traffic.answers)
    stage(registry, traffic).lose_store()
    assert traffic.away == 1
    assert champion(registry) == "v0001"


@pytest.mark.parametrize(("event", "role"), [(Event.MODEL, MODEL), (Event.INGRESS, INGRESS)])
def test_a_killed_replica_is_over_once_all_are_there_again(
    registry: Path, monkeypatch: pytest.MonkeyPatch, event: Event, role: str
) -> None:
    killed: list[str] = []
    there = itertools.chain([False, False], itertools.repeat(True))
    monkeypatch.setattr(faults, "kill_replica", killed.append)
    monkeypatch.setattr(faults, "all_there", lambda: next(there))
    acted = stage(registry, Followed(registry))
    acted.kill(event)
    assert killed == [role]
    assert [(one.event, one.over) for one in acted.windows] == [(event, True)]
    assert next(there)


def test_a_killed_node_gets_a_successor(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "all_there", lambda: False)
    nodes = Killed()
    acted = stage(registry, Followed(registry), nodes)
    acted.kill(Event.NODE)
    assert nodes.done == ["kill", "add"]
    assert not acted.windows[0].over, "its replicas never came back"
