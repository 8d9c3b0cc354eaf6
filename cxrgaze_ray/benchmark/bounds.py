"""What the hardware allows, from what decode and model take alone; and how a rate compares with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cxrgaze_ray.benchmark.processes import Process, cpu_since


def shared_cores(cores: int, decode_s: float, model_s: float) -> float:
    """Return images a second where decode and model share the cores and nothing else takes any.

    Parameters
    ----------
    cores
        What the machine has.
    decode_s, model_s
        Core-seconds an image.
    """
    return cores / (decode_s + model_s)


def slower_stage(cores: int, decode_s: float, wait_s: float) -> float:
    """Return images a second where the model takes no core: of the two stages the slower one's.

    Parameters
    ----------
    decode_s
        Core-seconds an image.
    wait_s
        Seconds an image that the model is busy.
    """
    return min(cores / decode_s, 1 / wait_s)


FIRST, LAST = 0.2, 0.9
"""Shares of a run's rows between which it is steady: the pipeline is filled, and does not run dry yet."""

LOOK = 0.6
"""Share of the rows at which processes are looked at for the last time: decoders are ahead, and end first."""


@dataclass(frozen=True)
class Mark:
    """Where a run stood: seconds on some clock, rows received, and the processes where they were looked at."""

    seconds: float
    rows: int
    processes: Sequence[Process] | None = None


@dataclass(frozen=True)
class Steady:
    """The middle of a run, without the filling and the draining of the pipeline.

    Attributes
    ----------
    images_per_second
        Slope of the straight line through the marks: rows come in chunks, several decoders' at a time.
    cpu_seconds
        An image, by role.
    rows
        That came in the middle.
    """

    images_per_second: float
    cpu_seconds: dict[str, float]
    rows: int


def steady(marks: Sequence[Mark], total: int) -> Steady:
    """Measure between `FIRST` and `LAST` of the rows.

    Raises
    ------
    ValueError
        If fewer than three marks lie between them, or the processes were not looked at twice.
    """
    middle = [mark for mark in marks if FIRST * total <= mark.rows <= LAST * total]
    looked = [(mark.rows, mark.processes) for mark in middle if mark.processes is not None]
    if len(middle) < 3 or len(looked) < 2:
        raise ValueError("a run of so few chunks has no steady middle")
    (rows_then, then), (rows_now, now) = looked[0], looked[-1]
    cpu = {role: seconds / (rows_now - rows_then) for role, seconds in cpu_since(then, now).items()}
    return Steady(_slope(middle), cpu, middle[-1].rows - middle[0].rows)


def _slope(marks: Sequence[Mark]) -> float:
    """Return rows a second by least squares."""
    mean_s = sum(mark.seconds for mark in marks) / len(marks)
    mean_rows = sum(mark.rows for mark in marks) / len(marks)
    across = sum((mark.seconds - mean_s) * (mark.rows - mean_rows) for mark in marks)
    return across / sum((mark.seconds - mean_s) ** 2 for mark in marks)
