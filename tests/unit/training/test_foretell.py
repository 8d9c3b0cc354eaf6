"""What a dry run reckons from what it measured, and warns of; nothing is measured here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.cluster.connection import ClusterSettings
from cxrgaze_ray.models.bundle import Lineage, make_bundle
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import ShardStore
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.training import foretell as module
from cxrgaze_ray.training.checkpoint import Checkpoint, Standing
from cxrgaze_ray.training.foretell import Foretold, foretell
from cxrgaze_ray.training.initial import INITIAL
from cxrgaze_ray.training.kept import KeptCheckpoints
from cxrgaze_ray.training.rehearsal import PhaseCost
from cxrgaze_ray.training.run import notes_of, training_name, work_store
from cxrgaze_ray.training.settings import TrainSettings
from tests.labelled_store import write_store

SETTINGS = TrainSettings.for_preset("tiny", ["encoder"], backbone="fresh")
COST = PhaseCost(
    phase="encoder", images=6, validated=4, epochs=2, batch=8, step_s=1, validation_s=0.5, features_s=0,
    feature_bytes=0, saved_bytes=2**20, loss_bytes=0, learning_bytes=2**20, network_bytes=2**20,
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShardStore:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return write_store(tmp_path / "store", {"train": 6, "validation": 4, "test": 3})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(LocalStore(str(tmp_path / "registry")))


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phase's cost, and a machine with room for all of it, whatever else the tests' machine has in memory."""
    monkeypatch.setattr(module, "rehearse", lambda *_, **__: COST)
    monkeypatch.setattr(module, "free_memory", lambda: 64 * 2**30)
    monkeypatch.setattr(module, "_free", lambda _: 64 * 2**30)
    monkeypatch.setattr(module, "peak_rss_mib", lambda: 512.0)


def told(store: ShardStore, registry: Registry, **values: Any) -> Foretold:
    return foretell(store, SETTINGS, registry, **values)


def test_workers_without_a_place_are_told_of_where_the_places_are_known(
    store: ShardStore, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    (warned,) = told(store, registry, workers=5, cluster=ClusterSettings(num_cpus=4)).warnings
    assert warned.startswith("Warning: 5 workers need a CPU each, and this machine has 4 for Ray")
    assert not told(store, registry, workers=4, cluster=ClusterSettings(num_cpus=4)).warnings
    monkeypatch.setenv("RAY_ADDRESS", "ray-head:6379")
    there = told(store, registry, workers=5)
    assert (there.warnings, there.sharing, there.seconds) == ([], 5, (4 * 0.5 + 2 * (6 * 1 + 4 * 0.5)) / 5)


def test_it_says_where_the_same_command_would_go_on(store: ShardStore, registry: Registry) -> None:
    work = work_store(registry, "cxrgaze", run := training_name(store, SETTINGS))
    work.put(INITIAL, b"-")
    assert told(store, registry).notes == notes_of(SETTINGS, None)
    kept = KeptCheckpoints(work, run)
    for stage, words in ((0, "was begun, and would go on from checkpoints/00-"), (1, "is over: the same command only")):
        kept.write(Checkpoint(Standing(stage=stage), model={}, best={}, optimiser={}, rng=[]))
        assert words in told(store, registry).notes[-1]


def test_parts_that_the_phases_leave_behind_are_told_of_as_when_training_begins(
    store: ShardStore, registry: Registry
) -> None:
    lineage = Lineage(settings=TrainSettings.for_preset("tiny").model_dump(mode="json"))
    registry.publish(make_bundle(build(SETTINGS.network), "cxrgaze", trained=True, lineage=lineage))
    (note,) = told(store, registry, parent="cxrgaze@v1").notes
    assert note.startswith("Phase encoder changes DenseNet after the gaze path and the classifier learned from it")


def test_memory_and_room_are_those_of_as_many_workers_as_there_is_room_for(
    store: ShardStore, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "rehearse", lambda *_, **__: replace(COST, feature_bytes=2**20))
    cluster = ClusterSettings(num_cpus=4)
    one, four, elastic, more = (
        told(store, registry, workers=workers, cluster=cluster) for workers in (1, 4, "1:4", "1:8")
    )
    assert one.memory.needed < four.memory.needed == elastic.memory.needed == more.memory.needed
    assert one.temporary.needed < four.temporary.needed == elastic.temporary.needed
    assert elastic.sharing == one.sharing
    monkeypatch.setenv("RAY_ADDRESS", "ray-head:6379")
    assert told(store, registry, workers="1:4").memory.needed == told(store, registry).memory.needed


def test_a_batch_larger_than_the_split_takes_no_more_memory_than_the_split(
    store: ShardStore, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = []
    for batch in (COST.images, 65_536):
        monkeypatch.setattr(module, "rehearse", lambda *_, batch=batch, **__: replace(COST, batch=batch))
        needed.append(told(store, registry).memory.needed)
    assert needed[0] == needed[1]


def test_less_memory_than_a_step_needs_is_warned_of(
    store: ShardStore, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_memory", lambda: 2**20)
    assert any("less memory than a step needs" in one for one in told(store, registry).warnings)
