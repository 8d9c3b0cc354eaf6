"""Interleaved timing: what runs side by side shares the machine's moods."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Timing:
    """Seconds of one contestant: median over rounds, and the spread from the fastest to the slowest."""

    seconds: float
    fastest: float
    slowest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Sum up rounds."""
        return cls(median(seconds), min(seconds), max(seconds))

    def times(self, factor: float) -> Timing:
        """Return the seconds of so many times the work."""
        return Timing(self.seconds * factor, self.fastest * factor, self.slowest * factor)

    @property
    def spread(self) -> float:
        """Slowest less fastest, as a share of the median."""
        return (self.slowest - self.fastest) / self.seconds


def race(contestants: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, Timing]:
    """Run each contestant once unmeasured, then all of them in turn, round after round.

    Parameters
    ----------
    contestants
        Functions by name; each call does the same work.
    rounds
        Measured calls of each.
    """
    for run in contestants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: Timing.of(each) for name, each in seconds.items()}
