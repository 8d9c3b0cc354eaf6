"""How a training is run: its workers, what it waits for, and what is asked of it before it is stopped."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import ray

from cxrgaze_ray.config import Settings
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.lifecycle.retraining import RetrainSettings
from cxrgaze_ray.training import supervision
from cxrgaze_ray.training.board import Around, News, Waiting, _Board, tell
from cxrgaze_ray.training.progress import EpochStep
from cxrgaze_ray.training.running import CheckpointSettings, Workers, WorkersSetting
from cxrgaze_ray.training.supervision import Supervisor


class Job(Settings):
    """A settings file with workers in it."""

    workers: WorkersSetting = Workers()


@pytest.mark.parametrize(
    ("written", "read", "told"),
    [(4, Workers(4, 4), "4 workers"), ("1", Workers(1, 1), "1 worker"), ("2:8", Workers(2, 8), "2 to 8 workers")],
)
def test_workers_are_a_number_or_from_how_many_to_how_many(written: Any, read: Workers, told: str) -> None:
    job = Job.build(workers=written)
    assert job.workers == Workers.parse(written) == read
    assert str(read) == told
    assert Job.build(**job.model_dump(mode="json")) == job


@pytest.mark.parametrize("wrong", ["0", "8:2", "2:", ":8", "two", "-1", "1:100000", 1.5, None, True])
def test_anything_else_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"is no number of workers") as told:
        Workers.parse(wrong)
    assert "2:8" in told.value.hint
    with pytest.raises(ConfigError, match="workers"):
        Job.build(workers=wrong)


def test_a_retraining_is_the_same_however_often_it_is_saved() -> None:
    """A request is found again by its hash; one written before there were elastic workers has the number's."""
    plain = RetrainSettings.build(workers=2)
    assert plain.model_dump(mode="json")["workers"] == 2
    saved = plain.model_copy(update={"checkpoints": CheckpointSettings(minutes=10)})
    assert saved.sha256() == plain.sha256()


def around(cpus: float, *, free: float, held: bool = False, awaited: bool = False) -> Around:
    return Around({"CPU": cpus}, {"CPU": free}, held, awaited)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (around(4, free=4), "Starting 2 workers"),
        (around(4, free=2), "Starting 2 workers"),
        (around(4, free=0, held=True), "Starting 2 workers"),
        (around(4, free=1), "Waiting for 2 workers"),
        (around(4, free=0, awaited=True), "Waiting for 2 workers"),
        (around(4, free=2)._replace(there={"CPU": 4, "GPU": 1}), "Waiting for 2 workers"),
    ],
)
def test_a_training_says_that_it_waits_for_room_only_where_there_is_none(seen: Around, said: str) -> None:
    lines: list[str] = []
    waiting = Waiting(Workers(2, 2), lines.append, lambda: seen)
    for second in (0, 31):
        waiting.look("SCHEDULING", second)
    assert [line.startswith(said) for line in lines] == [True]


def test_what_a_training_waits_for_is_said_now_and_then() -> None:
    said: list[str] = []
    waiting = Waiting(Workers(2, 8), said.append, lambda: around(1, free=1))
    for second in range(0, 100, 5):
        waiting.look("RESCHEDULING", second)
    assert len(said) == 3
    assert said[0].startswith("Waiting for 2 workers, a CPU each, for 30 s now. The cluster's nodes have 1 CPU,")
    waiting.look("RUNNING", 100)
    waiting.look("RESTARTING", 105)
    assert len(said) == 3


class Local:
    """A board in this process: its methods are called as an actor's are."""

    def __init__(self) -> None:
        self.board = _Board()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.board, name)
        return type("Method", (), {"remote": staticmethod(method)})


def test_a_checkpoint_is_asked_for_before_workers_are_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get", lambda value: value)
    waited: list[int] = []
    monkeypatch.setattr(supervision, "ask_and_wait", lambda board, _: waited.append(board.ask.remote()))
    board = Local()
    supervisor = Supervisor(board)
    for state, workers in [("SCHEDULING", 2), ("RUNNING", None), ("RUNNING", None)]:
        supervisor(state, workers)
    assert board.board.ask() == 0, "nobody listens yet"
    board.board.attend()
    for state, workers in [("RESIZING", 1), ("SCHEDULING", 1)]:
        supervisor(state, workers)
    assert waited == [1]
    assert board.board.ask() == 0, "nobody trains any more"
    supervisor("RUNNING", None)
    board.board.attend()
    for state in ("PREEMPTING", "PREEMPTING", "RESTARTING", "SCHEDULING", "RUNNING", "FINISHED"):
        supervisor(state, None)
    assert board.board.asked() == 2
    assert board.board.take().said == [
        "The cluster has room for 1 worker now: the training goes on with them.",
        "A node is being taken away: a checkpoint is written first.",
        "A worker was lost, or failed: the training goes on from its last checkpoint.",
    ]


_ENDED = """
import os, signal, sys, threading, time
from cxrgaze_ray.training.requests import HERE, checkpoint_before_the_end

signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
checkpoint_before_the_end()

def step() -> None:
    HERE.asked.wait()
    print("written", flush=True)
    HERE.answer()

HERE.begin()
threading.Thread(target=step, daemon=True).start()
os.kill(os.getpid(), signal.SIGTERM)
while True:
    time.sleep(0.01)
"""


def test_a_worker_told_to_end_writes_a_checkpoint_first_and_ends_as_it_would() -> None:
    done = subprocess.run([sys.executable, "-c", _ENDED], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (7, "written\n"), done.stderr


def test_what_cannot_be_written_ends_neither_training_nor_telling() -> None:
    metrics = {"stage": "encoder", "epoch": 1, "epochs": 2, "train_loss": 1.0, "validation_loss": 2.0, "seconds": 3.0}
    step = EpochStep("encoder", 2, 2, "train", 8, 16, 4.0)

    def full_disk(_metrics: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device", "/somebody/events")

    said: list[str] = []
    steps: list[EpochStep] = []
    tell(News([metrics | {"best": True}], ["Continuing."], "RUNNING", step), said.append, full_disk, steps.append)
    assert said[0] == "Continuing."
    assert said[1].startswith("encoder")
    assert said[2:] == ["Something of the training could not be told or written (OSError); it goes on."]
    assert steps == [step]
