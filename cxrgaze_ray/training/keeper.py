"""When a checkpoint is made, and who writes it: a thread beside the steps, which wait only while state is copied."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import torch

from cxrgaze_ray.errors import EnvironmentFault
from cxrgaze_ray.training.checkpoint import Checkpoint
from cxrgaze_ray.training.ranks import most, ranks

Make = Callable[[], Checkpoint]

_DUE, _ASKED = 1, 2


class Writer:
    """Writes checkpoints on a thread of its own, one at a time; of those that wait only the newest is written.

    Parameters
    ----------
    write
        Writes one.
    failed
        Called with what writing raised: a training goes on without the one checkpoint.
    """

    def __init__(self, write: Callable[[Checkpoint], None], failed: Callable[[Exception], None]) -> None:
        self._write, self._failed = write, failed
        self._state = threading.Condition()
        self._waiting: Checkpoint | None = None
        self._thread: threading.Thread | None = None
        self._succeeded = True

    @property
    def idle(self) -> bool:
        """Whether nothing is being written."""
        return self._thread is None

    def submit(self, checkpoint: Checkpoint) -> None:
        """Have a checkpoint written soon."""
        with self._state:
            self._waiting = checkpoint
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
                self._thread.start()

    def flush(self) -> bool:
        """Wait until nothing is left to write; return whether the last one was written."""
        with self._state:
            self._state.wait_for(lambda: self.idle)
        return self._succeeded

    def _run(self) -> None:
        while True:
            with self._state:
                checkpoint, self._waiting = self._waiting, None
                if checkpoint is None:
                    self._thread = None
                    self._state.notify_all()
                    return
            try:
                self._write(checkpoint)
                self._succeeded = True
            except Exception as error:  # whatever it is, the training is worth more than this one checkpoint
                self._succeeded = False
                self._failed(error)


class Keeper:
    """Decides after every step whether a checkpoint is made, the same on every rank.

    One is made when the last is old enough and written, and at once if a rank was asked for it, as before it is
    stopped; then all ranks wait until it is written.

    Parameters
    ----------
    writer
        What writes them; None on every rank but the first.
    every_s
        Seconds after which a checkpoint is old enough.
    device
        Device over which ranks talk.
    asked
        Set if this rank is asked for one; cleared once it is written.
    kept
        Called when one that was asked for is written.
    """

    def __init__(
        self,
        writer: Writer | None,
        every_s: float,
        device: torch.device,
        asked: threading.Event,
        kept: Callable[[], None] = lambda: None,
    ) -> None:
        self._writer, self._every_s, self._device = writer, every_s, device
        self._asked, self._kept = asked, kept
        self._last, self._ranks = time.monotonic(), ranks()

    def offer(self, make: Make) -> None:
        """Make a checkpoint if one is due; every rank must call this after every step."""
        wanted = most(self._wanted(), self._device)
        if wanted:
            self.keep(make)
        if wanted == _ASKED:
            self._wait_until_written()

    def keep(self, make: Make) -> None:
        """Make a checkpoint and have it written; every rank must call this."""
        self._check()
        checkpoint = make()
        if self._writer is not None:
            self._writer.submit(checkpoint)
        self._last = time.monotonic()

    def finish(self) -> bool:
        """Wait until nothing is left to write; return whether the last one was written, as far as this rank knows."""
        self._check()
        return self._writer is None or self._writer.flush()

    def _check(self) -> None:
        """Keep nothing of a rank that goes on alone for a moment, because the others' group was dissolved around it."""
        if ranks() != self._ranks:
            raise EnvironmentFault("The group of workers was dissolved.", "Run the same command again.")

    def _wanted(self) -> int:
        if self._asked.is_set():
            return _ASKED
        due = self._writer is not None and self._writer.idle and time.monotonic() - self._last >= self._every_s
        return _DUE if due else 0

    def _wait_until_written(self) -> None:
        failed = most(int(not self.finish()), self._device)  # a rank that was asked may be gone as soon as it knows
        self._asked.clear()
        if not failed:
            self._kept()
