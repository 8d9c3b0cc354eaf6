"""What is done in Ray Train's controller when workers are lost, taken away or added."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import ray

from cxrgaze_ray.errors import CxrgazeError
from cxrgaze_ray.training.board import ask_and_wait
from cxrgaze_ray.training.kept import KeptCheckpoints
from cxrgaze_ray.training.running import Workers

_RESIZE_S = 30.0


class Supervisor:
    """Tells the board of the controller's states, and asks for a checkpoint before workers are taken away."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._state = "INITIALIZING"

    def __call__(self, state: str, workers: int | None) -> None:
        """Take note of a state of the controller.

        Parameters
        ----------
        state
            Its name.
        workers
            Number of workers that are to train from now on, where it is known.
        """
        before, self._state = self._state, state
        if state == "RESIZING":
            self._say(f"The cluster has room for {Workers.parse(workers)} now: the training goes on with them.")
            ask_and_wait(self._board, _RESIZE_S)
        if state == "PREEMPTING" and before != state:
            self._say("A node is being taken away: a checkpoint is written first.")
            self._board.ask.remote()
        if state == "RESTARTING" and before in ("RUNNING", "PREEMPTING"):
            self._say("A worker was lost, or failed: the training goes on from its last checkpoint.")
        ray.get(self._board.set_state.remote(state))

    def _say(self, text: str) -> None:
        self._board.say.remote(text)


class Progress:
    """How far a training has been kept: failures count only between which it does not advance."""

    def __init__(self, kept: KeptCheckpoints) -> None:
        self._kept, self._last = kept, ""

    def __call__(self) -> str:
        """Return how far it has been kept, or what was found last if the store can't be asked now."""
        with suppress(CxrgazeError):
            self._last = self._kept.advanced()
        return self._last
