"""What happened when, while the loop was closed: for the terminal, and for the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["work", "alert", "decision", "person", "service"]


@dataclass
class Moment:
    """One thing that happened.

    Attributes
    ----------
    at_s, took_s
        Seconds since the beginning, and how long it took.
    kind
        work; alert of the monitor; decision of policy or gate; what a person did; what clients of the service saw.
    title
        A few words.
    lines
        Sentences about what came of it.
    """

    at_s: float
    kind: Kind
    title: str
    took_s: float = 0.0
    lines: list[str] = field(default_factory=list)

    def tell(self, line: str) -> None:
        """Add a sentence."""
        self.lines.append(line)


class Timeline:
    """Collects moments, and says each as it begins and what came of it.

    Parameters
    ----------
    say
        Called with a sentence.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._started = say, time.monotonic()
        self.moments: list[Moment] = []

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    @contextmanager
    def moment(self, title: str, kind: Kind = "work") -> Iterator[Moment]:
        """Do something, and keep what came of it."""
        one = Moment(self.seconds, kind, title)
        self.moments.append(one)
        self._say(f"[{_clock(one.at_s)}] {title}")
        yield one
        one.took_s = self.seconds - one.at_s
        for line in one.lines:
            self._say(f"        {line}")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:2d}:{int(seconds) % 60:02d}"
