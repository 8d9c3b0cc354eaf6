"""What happens to the service, one thing after another, and how long each took to be over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cxrgaze_ray.benchmark.soak.cluster import INGRESS, MODEL, Nodes, all_there, kill_replica
from cxrgaze_ray.benchmark.soak.requests import Kind, health
from cxrgaze_ray.benchmark.soak.traffic import Answer, Traffic
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.storage import open_store

_NAME = "cxrgaze"
_IN_A_ROW = 12
"""Answers as they should be, one after another, after which a fault counts as over."""

_GIVE_UP_S = 180.0
"""A fault that is not over by then is not waited for any longer."""

_SETTLE_S = 5.0
_PROBE_EVERY_S = 1.0


class Event(StrEnum):
    """What may happen."""

    CALM = "calm"
    BURST = "burst"
    CHAMPION = "champion moved and back"
    AWAY = "store away"
    MODEL = "model replica killed"
    INGRESS = "ingress replica killed"
    NODE = "node killed"
    STEADY = "steady"


KILLS = frozenset({Event.MODEL, Event.INGRESS, Event.NODE})
"""While these last, a request may be told to come back."""


@dataclass(frozen=True)
class Window:
    """The time that something took.

    Attributes
    ----------
    event
        What happened.
    began, ended
        By the monotonic clock, in seconds.
    over
        Whether it was over by then; False if that was not waited for any longer.
    """

    event: Event
    began: float
    ended: float
    over: bool = True

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass(frozen=True)
class Burst:
    """What so many clients at once got, and health checks meanwhile."""

    answers: list[Answer]
    checks: list[Answer]


@dataclass
class Stage:
    """The service with its clients, and what is done to it.

    Attributes
    ----------
    traffic, nodes
        Clients, and where the service runs.
    registry
        Folder of the registry.
    versions
        The champion, and another version.
    follow_every_s
        How often the ingress looks at the registry.
    say
        Called with what happens.
    windows
        What happened so far.
    """

    traffic: Traffic
    nodes: Nodes
    registry: Path
    versions: tuple[str, str]
    follow_every_s: float
    say: Callable[[str], None]
    windows: list[Window] = field(default_factory=list)

    def calm(self, seconds: float, event: Event = Event.CALM) -> Window:
        """Let nothing happen."""
        with self._window(event):
            time.sleep(seconds)
        return self.windows[-1]

    def burst(self, kind: Kind, count: int, patience_s: float) -> Burst:
        """Have many clients post at once; health is asked for meanwhile."""
        checks: list[Answer] = []
        with self._window(Event.BURST):
            crowd = self.traffic.start_burst(kind, count, patience_s)
            while not crowd.done():
                checks.append(self.traffic.ask(health()))
                time.sleep(_PROBE_EVERY_S)
            self._wait(self._answered_in_a_row)
        return Burst(crowd.result(), checks)

    def move_champion(self) -> None:
        """Promote the other version, and roll back."""
        with self._window(Event.CHAMPION):
            self._move()

    def lose_store(self) -> None:
        """Take the registry away for some rounds of looking at it; then the champion moves as ever."""
        away = self.registry.with_name("away")
        with self._window(Event.AWAY):
            self.registry.rename(away)
            try:
                time.sleep(4 * self.follow_every_s)
            finally:
                away.rename(self.registry)
            self._move()

    def kill(self, event: Event) -> None:
        """Kill a replica or a node, and wait until as many serve as before."""
        with self._window(event):
            if event is Event.NODE:
                self.nodes.kill()
                time.sleep(_SETTLE_S)  # half of the service is left meanwhile
                self.nodes.add()
            else:
                kill_replica({Event.MODEL: MODEL, Event.INGRESS: INGRESS}[event])
            self._wait(all_there)
            self._wait(self._answered_in_a_row)

    def _move(self) -> None:
        first, other = self.versions
        registry = Registry(open_store(str(self.registry)))
        registry.promote(_NAME, other)
        self._wait(lambda: self._answered_in_a_row(other))
        registry.rollback(_NAME)
        self._wait(lambda: self._answered_in_a_row(first))

    def _answered_in_a_row(self, version: str = "") -> bool:
        sound = [one for one in self.traffic.answers if one.kind.code == 200][-_IN_A_ROW:]
        since = self._since
        return len(sound) == _IN_A_ROW and all(
            one.code == 200 and one.began > since and (not version or one.version == version) for one in sound
        )

    def _wait(self, happened: Callable[[], bool]) -> None:
        end = time.monotonic() + _GIVE_UP_S
        self._since = time.monotonic()
        while not happened():
            if time.monotonic() > end:
                self._over = False
                return
            time.sleep(0.1)

    @contextmanager
    def _window(self, event: Event) -> Iterator[None]:
        self.say(f"{event.capitalize()}.")
        self._over, began = True, time.monotonic()
        yield
        self.windows.append(Window(event, began, time.monotonic(), self._over))
