"""Rows of more or fewer cells than the header, counted and left out by Arrow."""

from __future__ import annotations

import sys
import time
from typing import Any

_LONGEST_S = 10.0
_STEP_S = 0.002


class RaggedRows:
    """What Arrow asks of each such row.

    Arrow's threads keep it a little longer than an error, and give it back through the interpreter: one that ends
    meanwhile is aborted. So whoever reads a table waits until they have given it back.

    Attributes
    ----------
    count
        How many there were.
    """

    def __init__(self) -> None:
        self.count = 0
        self._own = 0

    def lend(self) -> None:
        """Remember who holds this before Arrow does; to be called as `wait` is."""
        self._own = sys.getrefcount(self)

    def __call__(self, _row: Any) -> str:
        self.count += 1
        return "skip"

    def wait(self) -> None:
        """Return once nobody holds this who did not when it was lent."""
        end = time.monotonic() + _LONGEST_S
        while sys.getrefcount(self) > self._own and time.monotonic() < end:
            time.sleep(_STEP_S)
