"""Learning curves as points of a picture: losses of the phases, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cxrgaze_ray.models.curves import Curve

WIDTH, HEIGHT = 300, 110
"""Size of the picture's plane."""


@dataclass(frozen=True)
class DrawnCurve:
    """A phase's two lines.

    Attributes
    ----------
    train, validation
        Points of an SVG's polyline: one for every epoch.
    best_x, best_y
        Where the epoch is whose weights were kept, on the validation's line.
    low, high
        Losses at the picture's lower and upper edge.
    """

    phase: str
    epochs: int
    best: int
    train: str
    validation: str
    best_x: float
    best_y: float
    low: float
    high: float
    first_loss: float
    best_loss: float


def drawn(curves: Sequence[Curve]) -> list[DrawnCurve]:
    """Return the pictures of all phases that have finite losses."""
    return [_drawn(curve) for curve in curves if all(map(math.isfinite, (*curve.train, *curve.validation)))]


def _drawn(curve: Curve) -> DrawnCurve:
    low, high = min(*curve.train, *curve.validation), max(*curve.train, *curve.validation)

    def at(number: int, loss: float) -> tuple[float, float]:
        across = number / max(len(curve.train) - 1, 1)
        return round(WIDTH * across, 1), round(HEIGHT * (high - loss) / ((high - low) or 1), 1)

    def line(losses: Sequence[float]) -> str:
        return " ".join(f"{x},{y}" for x, y in (at(number, loss) for number, loss in enumerate(losses)))

    best_loss = curve.validation[curve.best - 1]
    x, y = at(curve.best - 1, best_loss)
    return DrawnCurve(
        phase=curve.phase, epochs=len(curve.train), best=curve.best, train=line(curve.train),
        validation=line(curve.validation), best_x=x, best_y=y, low=low, high=high,
        first_loss=curve.validation[0], best_loss=best_loss,
    )  # fmt: skip
