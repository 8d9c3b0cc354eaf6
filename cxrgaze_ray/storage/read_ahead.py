"""Read many objects in order, a few of them ahead: each request waits long for few bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

AHEAD = 8
"""Objects in memory at once."""


def read_ahead(read: Callable[[Key], Value], keys: Iterable[Key], ahead: int = AHEAD) -> Generator[Value]:
    """Yield what `read` returns for each key, in order; at most `ahead` results wait for their turn."""
    rest = iter(keys)
    with ThreadPoolExecutor(ahead, thread_name_prefix="read") as pool:
        waiting: deque[Future[Value]] = deque(pool.submit(read, key) for key in islice(rest, ahead))
        try:
            while waiting:
                value = waiting.popleft().result()
                waiting.extend(pool.submit(read, key) for key in islice(rest, 1))
                yield value
        finally:
            for future in waiting:
                future.cancel()
