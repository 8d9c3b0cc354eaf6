"""Two lanes into one computing thread: work that people wait for goes before an archive's."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

URGENT_IN_A_ROW = 16
"""Urgent pieces computed before an ordinary one gets its turn: a flood of requests slows a batch job, no more."""


class Lanes:
    """One thread that computes what is submitted, urgent pieces first, each lane in order.

    A long ordinary piece calls `let_urgent_pass` between its parts.
    """

    def __init__(self, name: str = "model") -> None:
        self._changed = threading.Condition()
        self._urgent: deque[Callable[[], None]] = deque()
        self._ordinary: deque[Callable[[], None]] = deque()
        self._row = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[..., T], *args: Any, urgent: bool = False) -> Future[T]:
        """Queue a piece of work; a future that is cancelled before its turn is never computed."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the lanes are closed")
            (self._urgent if urgent else self._ordinary).append(partial(_compute, future, function, args))
            self._changed.notify()
        return future

    def let_urgent_pass(self) -> None:
        """Compute the urgent pieces now waiting, `URGENT_IN_A_ROW` at most. Call it only on the computing thread."""
        # no lock: only this thread takes from the deque, and others append, which is atomic
        for _ in range(min(len(self._urgent), URGENT_IN_A_ROW)):
            self._urgent.popleft()()

    def close(self) -> None:
        """Finish the queued work, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while (piece := self._next()) is not None:
            piece()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._urgent or self._ordinary or self._closed)
            if self._urgent and (not self._ordinary or self._row < URGENT_IN_A_ROW):
                self._row += 1
                return self._urgent.popleft()
            self._row = 0
            return self._ordinary.popleft() if self._ordinary else None


def _compute(future: Future[T], function: Callable[..., T], args: tuple[Any, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return  # whoever asked hung up before its turn
    try:
        result = function(*args)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
