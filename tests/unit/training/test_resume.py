"""A training killed anywhere ends as if it had not been; what is kept of it is whole, bounded, and costs no step."""

from __future__ import annotations

import json
import random
import resource
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from cxrgaze_ray.errors import RunConflict, StoreUnavailable
from cxrgaze_ray.models.network import Network
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.storage import LocalStore, Store
from cxrgaze_ray.training import loop
from cxrgaze_ray.training.checkpoint import Checkpoint, Standing, Within, hand_over, rng_states, snapshot
from cxrgaze_ray.training.keeper import Keeper, Writer
from cxrgaze_ray.training.kept import KeptCheckpoints
from cxrgaze_ray.training.recipes import Stage
from cxrgaze_ray.training.settings import TrainSettings
from cxrgaze_ray.training.steps import Steps
from tests.unit.training.test_training import Stopped, changed, settings, train

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Make sums come in one order."""
    torch.set_num_threads(1)


class Killed:
    """A training that keeps a checkpoint every few steps, and is killed between two of them, again and again."""

    def __init__(self, store: Store, chosen: TrainSettings, seed: int) -> None:
        self.kept, self.chosen = KeptCheckpoints(store, "run", keep=2), chosen
        self.draws = random.Random(seed)
        self.kills = 0

    def offers(self) -> Callable[[Callable[[], Checkpoint]], None]:
        """Return a hook that keeps every second checkpoint, and at some step ends the process."""
        steps, last = 0, self.draws.randint(3, 8)

        def offer(make: Callable[[], Checkpoint]) -> None:
            nonlocal steps
            steps += 1
            if steps % 2 == 0:
                self.kept.write(make())
            if steps == last:
                self.kills += 1
                raise Stopped

        return offer

    def run(self) -> tuple[Network, list[dict[str, Any]]]:
        """Start and start again until the training ends."""
        while True:
            network, resume = build(self.chosen.network, seed=3), None
            if found := self.kept.furthest():
                resume = found[1]
                hand_over(network, resume.best)
            try:
                return train(self.chosen, network, resume=resume, offer=self.offers(), report=self.report)
            except Stopped:
                continue

    def report(self, _metrics: dict[str, Any], make: Callable[[], Checkpoint], ends: bool) -> None:
        if ends:
            self.kept.write(make())


RELEASED = {"plateau": 1, "optimiser": "adamw", "weight_decay": 0.01, "augment": True, "lr": 0.05}


@pytest.mark.long
@pytest.mark.parametrize(
    "chosen",
    [
        settings("encoder", "saliency", "classifier"),
        settings("contrastive", batch=6, epochs=3),
        settings("encoder", epochs=3, **RELEASED),
        settings("joint", epochs=2, **RELEASED),
    ],
    ids=["three phases", "triplets", "released", "joint"],
)
def test_a_training_killed_at_random_steps_ends_as_if_it_had_not_been(tmp_path: Path, chosen: TrainSettings) -> None:
    straight, expected = train(chosen, build(chosen.network, seed=3))
    killed = Killed(LocalStore(str(tmp_path)), chosen, seed=7)
    resumed, history = killed.run()
    assert killed.kills > 1
    same = ("stage", "epoch", "train_loss", "validation_loss", "best")
    assert [[e[k] for k in same] for e in history] == [[e[k] for k in same] for e in expected]
    assert not changed(snapshot(straight), snapshot(resumed))
    assert len(killed.kept.names()) <= 2


def test_a_kill_before_the_first_epoch_costs_no_more_than_a_step() -> None:
    chosen, made = settings("encoder"), list[Checkpoint]()
    straight, expected = train(chosen, build(chosen.network, seed=3), offer=lambda make: made.append(make()))
    within = made[0].standing.within
    assert within is not None
    assert (within.part, within.steps) == ("before", 1)
    network, taken = build(chosen.network, seed=3), list[Checkpoint]()
    hand_over(network, made[0].best)
    _, history = train(chosen, network, resume=made[0], offer=lambda make: taken.append(make()))
    assert len(taken) == len(made) - 1
    assert history[0]["before"] == expected[0]["before"]
    assert history[0]["train_loss"] == expected[0]["train_loss"]
    assert not changed(snapshot(straight), snapshot(network))


def test_a_phase_that_is_over_is_not_got_ready_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its features, which were removed with it, would be computed for nothing."""
    chosen, ends, begun = settings("encoder", "classifier"), list[Checkpoint](), list[str]()
    straight, _ = train(chosen, report=lambda _metrics, make, _ends: ends.append(make()))

    class Told(Steps):
        def __init__(self, network: Network, stage: Stage, *rest: Any) -> None:
            begun.append(stage.name)
            super().__init__(network, stage, *rest)

    monkeypatch.setattr(loop, "Steps", Told)
    resumed = build(chosen.network, seed=9)
    hand_over(resumed, ends[0].best)
    train(chosen, resumed, resume=ends[0])
    assert begun == ["classifier"]
    assert not changed(snapshot(straight), snapshot(resumed))


def checkpoint(steps: int = 0, *, stage: int = 0, epoch: int = 0) -> Checkpoint:
    weight = {"weight": torch.full((3,), float(steps))}
    return Checkpoint(Standing(stage, epoch, within=Within(steps=steps)), weight, weight, {}, rng_states(CPU))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(str(tmp_path))


def test_the_furthest_few_are_kept_whatever_order_they_come_in(store: Store) -> None:
    kept = KeptCheckpoints(store, "run", keep=2)
    for one in (checkpoint(9), checkpoint(10), checkpoint(0, epoch=1), checkpoint(11), checkpoint(0, stage=1)):
        kept.write(one)
    found = [kept.read(key).standing.progress() for key in kept.names()]
    assert found == [(1, 0, 1, 0), (0, 1, 1, 0)]
    kept.finish(checkpoint(0, stage=2))
    assert [kept.read(key).standing.stage for key in kept.names()] == [2]
    end = kept.end(2)
    assert end is not None
    assert (end.standing.stage, kept.end(3)) == (2, None)


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "changed"])
def test_a_damaged_checkpoint_is_never_resumed_from(store: Store, damage: str) -> None:
    kept = KeptCheckpoints(store, "run", keep=1)
    kept.write(checkpoint(5))
    whole = store.get(kept.names()[0])
    later = kept.names()[0].replace("00000005", "00000008")
    changed = whole[:-1] + bytes([whole[-1] ^ 1])
    bad = {"cut": whole[: len(whole) // 2], "empty": b"", "other": b"not safetensors at all", "changed": changed}
    store.put(later, bad[damage])
    said: list[str] = []
    found = kept.furthest(said.append)
    assert found is not None
    assert found[1].standing.progress() == (0, 0, 1, 5)
    assert len(said) == 1
    kept.write(checkpoint(6))
    assert [kept.read(key).standing.progress()[3] for key in kept.names()] == [6]


def test_a_training_that_an_earlier_version_began_goes_on(store: Store) -> None:
    """Ray Train kept its checkpoints then, in folders, and named the last one in an index."""
    run, folder = "ray/run", "checkpoint_2026-11-28_20-00-00.000000"
    for file in (ROOT / "tests/artefacts/checkpoint").iterdir():
        store.put(f"{run}/{folder}/{file.name}", file.read_bytes())
    kept = KeptCheckpoints(store, "run")
    index: dict[str, Any] = {"latest_checkpoint_result": None}
    store.put(f"{run}/checkpoint_manager_snapshot.json", json.dumps(index).encode())
    assert kept.furthest() is None
    index = {"latest_checkpoint_result": {"checkpoint_dir_name": folder, "metrics": {}}}
    store.put(f"{run}/checkpoint_manager_snapshot.json", json.dumps(index).encode())
    found = kept.furthest()
    assert found is not None
    assert found[1].standing.progress() == (1, 2, 0, 0)
    assert kept.end(1) is None
    kept.write(checkpoint(0, stage=1, epoch=3))
    found = kept.furthest()
    assert found is not None
    assert found[1].standing.epoch == 3


def test_a_write_that_was_cut_off_leaves_nothing_to_resume_from(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptCheckpoints(store, "run", keep=2)
    kept.write(checkpoint(5))

    def die(*_: object) -> None:
        raise Stopped

    monkeypatch.setattr("shutil.copyfileobj", die)
    with pytest.raises(Stopped):
        kept.write(checkpoint(6))
    found = kept.furthest()
    assert found is not None
    assert found[1].standing.progress() == (0, 0, 1, 5)


def test_a_full_folder_for_temporary_files_is_told(store: Store) -> None:
    """A checkpoint that can't be laid there to be read is not taken for a damaged one, which would be removed."""
    kept = KeptCheckpoints(store, "run")
    kept.write(checkpoint(5))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for act in (lambda: kept.write(checkpoint(6)), kept.furthest):
            with pytest.raises(StoreUnavailable, match="folder for temporary files") as told:
                act()
            assert "TMPDIR" in told.value.hint
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert kept.names() == ["checkpoints/00-000000-1-00000005.safetensors"]


class Slow:
    """A store's side that a test lets go on."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self, one: Checkpoint) -> None:
        self.begun.set()
        assert self.may_end.wait(30)
        self.written.append(one.standing.progress()[3])


def test_steps_go_on_while_a_checkpoint_is_written() -> None:
    slow, failures = Slow(), list[Exception]()
    keeper = Keeper(Writer(slow, failures.append), 0.0, CPU, threading.Event())
    keeper.offer(lambda: checkpoint(1))
    assert slow.begun.wait(30)
    made = []
    for steps in range(2, 50):  # none of these waits, nor is any copied: one at a time is written
        keeper.offer(lambda steps=steps: made.append(steps) or checkpoint(steps))  # type: ignore[misc, func-returns-value]
    assert made == []
    keeper.keep(lambda: checkpoint(50))  # a phase's end waits for its turn, and only the newest of those that do
    keeper.keep(lambda: checkpoint(51))
    slow.may_end.set()
    keeper.finish()
    assert slow.written == [1, 51]
    assert failures == []


def test_a_checkpoint_that_can_t_be_written_costs_only_itself() -> None:
    failures: list[Exception] = []
    written: list[int] = []

    def write(one: Checkpoint) -> None:
        if one.standing.progress()[3] == 1:
            raise OSError("the store is away")
        written.append(one.standing.progress()[3])

    keeper = Keeper(Writer(write, failures.append), 0.0, CPU, threading.Event())
    outcomes = []
    for steps in (1, 2):
        keeper.keep(lambda steps=steps: checkpoint(steps))  # type: ignore[misc]
        outcomes.append(keeper.finish())
    assert outcomes == [False, True]
    assert [str(error) for error in failures] == ["the store is away"]
    assert written == [2]


def test_nobody_is_told_of_a_checkpoint_that_could_not_be_written() -> None:
    asked, told = threading.Event(), list[str]()

    def write(_one: Checkpoint) -> None:
        raise OSError

    keeper = Keeper(Writer(write, lambda _: told.append("failed")), 3600, CPU, asked, lambda: told.append("kept"))
    asked.set()
    keeper.offer(lambda: checkpoint(1))
    assert told == ["failed"]
    assert not asked.is_set()


def test_what_is_asked_for_is_written_before_the_next_step(tmp_path: Path) -> None:
    asked, kept = threading.Event(), KeptCheckpoints(LocalStore(str(tmp_path)), "run")
    told, failures = list[list[str]](), list[Exception]()
    keeper = Keeper(Writer(kept.write, failures.append), 3600, CPU, asked, lambda: told.append(kept.names()))
    keeper.offer(lambda: checkpoint(1))
    assert kept.names() == []
    asked.set()
    keeper.offer(lambda: checkpoint(2))
    assert [len(names) for names in told] == [1]
    keeper.offer(lambda: checkpoint(3))
    assert len(told) == 1
    assert failures == []


def test_frozen_weights_are_kept_once(tmp_path: Path) -> None:
    """The best weights of a phase differ from its current ones only where it learns."""
    kept = KeptCheckpoints(LocalStore(str(tmp_path)), "run")
    frozen, head = torch.ones(100_000), torch.zeros(3)
    one = replace(checkpoint(1), model={"frozen": frozen, "head": head}, best={"frozen": frozen, "head": head + 1})
    kept.write(one)
    (key,) = kept.names()
    assert len(kept._work.get(key)) < 1.5 * frozen.nbytes
    found = kept.read(key)
    assert torch.equal(found.best["frozen"], frozen)
    assert found.best["head"].tolist() == [1, 1, 1]
    assert found.model["head"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("later", ["standing", "part", "scaler"])
def test_a_checkpoint_of_a_later_version_is_told_and_stays(store: Store, later: str) -> None:
    """It is whole, so that nothing is wrong with it: whoever updates cxrgaze again goes on from it."""
    kept = KeptCheckpoints(store, "run", keep=3)
    for steps in (5, 8):
        kept.write(checkpoint(steps))
    standing = json.dumps({"stage": 0, "epoch": 0, "warmed": True})
    header = {"standing": standing if later == "standing" else "{}", "scaler": "{}"}
    if later == "scaler":
        del header["scaler"]
    tensors = {"average.weight" if later == "part" else "rng.cpu.0": torch.zeros(3)}
    store.put(kept.names()[0], save(tensors, header))
    before, said = kept.names(), list[str]()
    with pytest.raises(RunConflict, match="another version of cxrgaze") as told:
        kept.furthest(said.append)
    assert "the version that wrote it" in told.value.hint
    assert (kept.names(), said) == (before, [])
