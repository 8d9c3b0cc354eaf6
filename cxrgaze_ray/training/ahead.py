"""Batches made on threads of their own, a few steps ahead of the one that learns from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TypeVar

import torch

from cxrgaze_ray.storage.read_ahead import read_ahead
from cxrgaze_ray.training.stages import Batch

Item = TypeVar("Item")
Row = TypeVar("Row")

BATCHES = 2
"""Batches that wait for their step; one more is in the making."""

THREADS = 4
MOST_THREADS = 16
"""Threads that read, decode and resize rows, as a rule and at most: most of it is done outside Python's lock."""


class Ahead:
    """Makes batches ahead of their steps.

    What it holds at once is bounded: `BATCHES` batches and the one in the making, whatever the number of rows.

    Parameters
    ----------
    threads
        Threads that read rows.
    pinned
        Put batches into page-locked memory, from where a CUDA device fetches them while it computes.

    Attributes
    ----------
    waited_s
        Seconds that whoever took batches has waited for them.
    """

    def __init__(self, threads: int = THREADS, *, pinned: bool = False) -> None:
        self._threads, self._pinned = threads, pinned
        self._pool: ThreadPoolExecutor | None = None
        self.waited_s = 0.0

    def __call__(self, make: Callable[[Item], Batch], items: Iterable[Item]) -> Iterator[Batch]:
        """Yield what `make` returns for each item, in order."""
        # a thread takes torch's number of threads, which is the process's, when it first asks for it: let this one,
        # which learns, have asked before those that read lower the number for themselves
        torch.get_num_threads()
        batches = read_ahead(partial(self._made, make), items, BATCHES)
        with closing(batches):  # its threads end with it
            while True:
                started = time.perf_counter()
                batch = next(batches, None)
                self.waited_s += time.perf_counter() - started
                if batch is None:
                    return
                yield batch

    def each(self, load: Callable[[int], Row], places: Iterable[int]) -> list[Row]:
        """Return what `load` returns for each place, in order, by all threads."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="rows", initializer=_alone)
        return list(self._pool.map(load, places))

    def _made(self, make: Callable[[Item], Batch], item: Item) -> Batch:
        torch.set_num_threads(1)
        batch = make(item)
        return batch.pinned() if self._pinned else batch


def _alone() -> None:
    """Compute on this thread alone: several threads that each take all cores would only share them."""
    torch.set_num_threads(1)
