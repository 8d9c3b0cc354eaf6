"""What the command, Ray Train's controller and the workers of a training tell each other while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cxrgaze_ray.training.progress import EpochStep
from cxrgaze_ray.training.running import Workers

NAME = "cxrgaze-training-board"

_LOOK_S = 0.5
_WAITS_S = 30.0
"""Time after which it is said what a training waits for, and said again."""


class News(NamedTuple):
    """What has happened since the last look.

    Metrics of finished epochs, sentences, the controller's state, and where the training is, if a step was taken.
    """

    epochs: list[dict[str, Any]]
    said: list[str]
    state: str
    step: EpochStep | None


class _Board:
    """Holds what is told until it is read, and numbers the requests for checkpoints."""

    def __init__(self) -> None:
        self._epochs: list[dict[str, Any]] = []
        self._said: list[str] = []
        self._state, self._attended = "INITIALIZING", False
        self._step: EpochStep | None = None
        self._asked = self._kept = 0

    def put(self, metrics: dict[str, Any]) -> None:
        self._epochs.append(metrics)

    def step(self, step: EpochStep) -> None:
        self._step = step

    def say(self, text: str) -> None:
        self._said.append(text)

    def set_state(self, state: str) -> None:
        self._state = state
        self._attended &= state in ("RUNNING", "PREEMPTING")

    def attend(self) -> int:
        """Take note that a worker looks here for requests from now on; return the number of the last one."""
        self._attended = True
        return self._asked

    def take(self) -> News:
        news = News(self._epochs, self._said, self._state, self._step)
        self._epochs, self._said, self._step = [], [], None
        return news

    def ask(self) -> int:
        """Ask for a checkpoint; return the request's number, or 0 if nobody trains who could write one."""
        if not self._attended:
            return 0
        self._asked += 1
        return self._asked

    def asked(self) -> int:
        return self._asked

    def keep(self, number: int) -> None:
        """Take note that a checkpoint was written in answer to all requests up to one."""
        self._kept = max(self._kept, number)

    def kept(self) -> int:
        return self._kept


def start_board() -> Any:
    """Start a board on this node: the loss of another must not take it away."""
    actor: Any = ray.remote(_Board)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return actor.options(name=NAME, num_cpus=0, scheduling_strategy=here).remote()


def ask_and_wait(board: Any, timeout_s: float) -> bool:
    """Ask whoever trains for a checkpoint and wait for it; return whether it was written in time."""
    number = ray.get(board.ask.remote())
    end = time.monotonic() + timeout_s
    while number and time.monotonic() < end:
        if ray.get(board.kept.remote()) >= number:
            return True
        time.sleep(0.2)
    return False


@contextmanager
def told(
    workers: Workers,
    say: Callable[[str], None],
    on_epoch: Callable[[dict[str, Any]], None],
    on_step: Callable[[EpochStep], None] = lambda _: None,
) -> Iterator[Any]:
    """Start a board, and tell of its news while a training runs."""
    board, stop = start_board(), threading.Event()
    waiting = Waiting(workers, say)

    def watch() -> None:
        stopping = False
        while not stopping:  # one more look after the end: the last epochs may have come since the last look
            stopping = stop.wait(_LOOK_S)
            news = ray.get(board.take.remote())
            tell(news, say, on_epoch, on_step)
            if not stopping:
                waiting.look(news.state, time.monotonic())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield board
    finally:
        stop.set()
        thread.join()
        ray.kill(board)


def tell(
    news: News,
    say: Callable[[str], None],
    on_epoch: Callable[[dict[str, Any]], None],
    on_step: Callable[[EpochStep], None],
) -> None:
    """Tell of news; what can't be told, as when a disk of event files is full, ends neither training nor telling."""
    calls: list[Callable[[], None]] = [partial(say, text) for text in news.said]
    for metrics in news.epochs:
        calls += [partial(say, epoch_line(metrics)), partial(on_epoch, metrics)]
    if news.step is not None:
        calls.append(partial(on_step, news.step))
    for call in calls:
        try:
            call()
        except Exception as error:
            with suppress(Exception):  # a terminal that is gone
                say(f"Something of the training could not be told or written ({type(error).__name__}); it goes on.")


class Around(NamedTuple):
    """A cluster as those see it who wait for room in it.

    Attributes
    ----------
    there, free
        Its CPUs and GPUs, and those that nobody holds.
    held, awaited
        Whether there are groups of workers that have their room, and whether there are some that wait for it.
    """

    there: dict[str, float]
    free: dict[str, float]
    held: bool
    awaited: bool

    def has_room_for(self, workers: int) -> bool:
        """Return whether so many workers have their room, or would find it at once."""
        kinds = ["CPU", *(["GPU"] if self.there.get("GPU") else [])]
        enough = all(self.free.get(kind, 0.0) >= workers for kind in kinds)
        return not self.awaited and (self.held or enough)


def _look_around() -> Around:
    from ray.util import placement_group_table

    states = {group["state"] for group in placement_group_table().values()}
    return Around(
        ray.cluster_resources(),  # type: ignore[no-untyped-call]
        ray.available_resources(),  # type: ignore[no-untyped-call]
        held="CREATED" in states,
        awaited=bool(states & {"PENDING", "RESCHEDULING"}),
    )


class Waiting:
    """Says what a training waits for, when it does.

    Parameters
    ----------
    workers
        Workers that it needs.
    say
        Called with a line, every `_WAITS_S` seconds while it waits.
    look_around
        Looks at the cluster.
    """

    def __init__(
        self, workers: Workers, say: Callable[[str], None], look_around: Callable[[], Around] | None = None
    ) -> None:
        self._workers, self._say, self._look_around = workers, say, look_around or _look_around
        self._since: float | None = None
        self._told_at = 0.0

    def look(self, state: str, now: float) -> None:
        """Take note of the controller's state at a moment."""
        if state not in ("INITIALIZING", "SCHEDULING", "RESCHEDULING", "RESTARTING"):
            self._since = None
            return
        if self._since is None:
            self._since = self._told_at = now
        if now - self._told_at >= _WAITS_S:
            self._told_at = now
            self._say(self._line(now - self._since))

    def _line(self, seconds: float) -> str:
        around, least = self._look_around(), self._workers.least
        if around.has_room_for(least):
            return (
                f"Starting {Workers(least, least)} for {seconds:.0f} s now: each reads PyTorch first, which takes"
                " minutes on a busy machine."
            )
        room = around.there
        needs = "a GPU and a CPU" if room.get("GPU") else "a CPU"
        there = " and ".join(
            f"{room[name]:g} {name}{'s' * (room[name] != 1)}" for name in ("CPU", "GPU") if name in room
        )
        return (
            f"Waiting for {Workers(least, least)}, {needs} each, for {seconds:.0f} s now. The cluster's nodes have"
            f" {there or 'no CPU'}, some of them perhaps in use. The training goes on as soon as there is room."
        )


def epoch_line(metrics: dict[str, Any]) -> str:
    """Return an epoch's line for the terminal."""
    mark = " *" if metrics["best"] else ""
    return (
        f"{metrics['stage']:<11} epoch {metrics['epoch']:>2}/{metrics['epochs']}  "
        f"train {metrics['train_loss']:.4f}  validation {metrics['validation_loss']:.4f}  "
        f"{metrics['seconds']:.1f} s{mark}"
    )
