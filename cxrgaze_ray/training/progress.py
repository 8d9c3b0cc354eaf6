"""What is told of a training while it runs: where it is within an epoch, and losses as TensorBoard's event files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cxrgaze_ray.config import check_extra
from cxrgaze_ray.errors import ConfigError, CxrgazeError
from cxrgaze_ray.models.curves import epoch_figures
from cxrgaze_ray.storage import LocalStore, check_writable, uris

TELL_S = 0.3
"""Least time between two steps of a split that are told of, the last one apart: some take milliseconds."""


class EpochStep(NamedTuple):
    """Where a training is.

    Attributes
    ----------
    stage, epoch, epochs
        Phase, number of the epoch from 1, and their largest number.
    split
        ``train``, or ``validation`` at the epoch's end.
    images, of
        How many of the split's images the steps have taken, over all workers.
    rate
        Images a second in this epoch and split.
    """

    stage: str
    epoch: int
    epochs: int
    split: str
    images: int
    of: int
    rate: float


class Pace:
    """Measures how fast the steps of a split take images.

    Parameters
    ----------
    of
        Images of the split.
    batch
        Images of a step.
    steps
        Steps that were taken before: by a training that was killed.
    """

    def __init__(self, of: int, batch: int, steps: int = 0) -> None:
        self.of, self._batch = of, batch
        self._before, self._began = self.images(steps), time.perf_counter()

    def images(self, steps: int) -> int:
        """Return how many images a number of steps takes."""
        return min(steps * self._batch, self.of)

    def rate(self, steps: int) -> float:
        """Return images a second since it began."""
        return (self.images(steps) - self._before) / max(time.perf_counter() - self._began, 1e-9)


def check_event_files(folder: str | None) -> None:
    """Raise ConfigError if a folder for event files is none of this machine's, or can't be written; nothing is left."""
    if folder is None:
        return
    if folder.startswith(uris.S3):
        raise ConfigError(f"Event files can't be written to {folder}.", "Name a folder of this machine.")
    try:
        check_writable(LocalStore(folder))
    except CxrgazeError as error:
        why = f"Event files can't be written to {folder}. {error.message}"
        raise ConfigError(why, "Name a folder that can be written.") from error


@contextmanager
def event_files(folder: str | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Write each epoch's losses and images a second as TensorBoard's event files; nothing without a folder.

    Tags are ``<phase>/train_loss``, ``<phase>/validation_loss`` and ``<phase>/images_per_second``; a step is an epoch.

    Raises
    ------
    ConfigError
        If the folder can't be written, or is none of this machine's.
    """
    if folder is None:
        yield lambda _: None
        return
    check_extra("train")
    from tensorboardX import SummaryWriter  # half a second that only those pay who ask for it

    check_event_files(folder)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        opened = SummaryWriter(folder)
    except OSError as error:
        why = f"Event files can't be written to {folder}: {error.strerror}."
        raise ConfigError(why, "Name a folder that can be written.") from error
    with opened as writer:

        def write(metrics: dict[str, Any]) -> None:
            for name, value in epoch_figures(metrics).items():
                writer.add_scalar(name, value, metrics["epoch"])
            writer.flush()

        yield write
