"""Random choices that are the same on every Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """Choices out of `random.Random.random` alone: the one sequence that Python promises never to change."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def below(self, end: int) -> int:
        """Return 0 to end - 1."""
        return int(self._random() * end)

    def chance(self, share: float) -> bool:
        """Return True with a probability."""
        return self._random() < share

    def of(self, values: Sequence[T]) -> T:
        """Return one of several."""
        return values[self.below(len(values))]

    def bytes(self, count: int) -> bytes:
        """Return random bytes."""
        return bytes(self.below(256) for _ in range(count))

    def span(self, size: int, longest: int = 64) -> tuple[int, int]:
        """Return start and end of a range, mostly short."""
        start = self.below(size + 1)
        return start, min(size, start + 1 + self.below(self.of((1, 4, longest, max(1, size)))))
