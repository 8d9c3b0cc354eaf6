"""A worker's requests for a checkpoint: from the command, from Ray Train's controller, or by a signal to it."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import ray
from ray.exceptions import RayError

_LOOK_S = 1.0
_LAST_S = 20.0
"""Longest time that a worker told to end waits for its checkpoint."""


class Requests:
    """One process's requests: `asked` is set by whoever wants a checkpoint, `kept` once it is written."""

    def __init__(self) -> None:
        self.asked, self.kept = threading.Event(), threading.Event()
        self._trains, self._seen = False, 0
        self._board: Any = None

    def begin(self, board: Any = None) -> None:
        """Take requests from now on, a board's too if one is given: a training has begun that answers them."""
        self._trains, self._board = True, board
        if board is not None:
            self._seen = ray.get(board.attend.remote())
            threading.Thread(target=self._follow, name="requests", daemon=True).start()

    def answer(self) -> None:
        """Tell whoever asked that a checkpoint is written."""
        self.kept.set()
        if self._board is not None:
            self._board.keep.remote(self._seen)

    def nothing_new(self) -> None:
        """Answer a request, if there is one, where everything that was done is kept already."""
        if self.asked.is_set():
            self.asked.clear()
            self.answer()

    def over(self) -> None:
        """Take no more requests: the training is over."""
        self._trains = False
        self.kept.set()

    def end(self, number: int, _frame: FrameType | None, then: Any) -> None:
        """Answer a signal to end: ask for a checkpoint, and do what `then` does once it is written, or time is up."""
        signal.signal(number, then)  # a second signal does not wait
        self.kept.clear()
        self.asked.set()

        def wait() -> None:
            if self._trains:
                self.kept.wait(_LAST_S)
            os.kill(os.getpid(), number)

        threading.Thread(target=wait, name="ending", daemon=True).start()

    def _follow(self) -> None:
        while self._trains:
            try:
                asked = ray.get(self._board.asked.remote())
            except RayError:  # the command is gone, and this worker will be
                return
            if asked > self._seen:
                self._seen = asked
                self.asked.set()
            time.sleep(_LOOK_S)


HERE = Requests()
"""This process's own: the handler of a signal is set before the training begins, and finds it by this name only."""


def checkpoint_before_the_end() -> None:
    """Have SIGTERM to this process write a checkpoint first; to be called on its main thread."""
    then = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, frame: HERE.end(number, frame, then))
