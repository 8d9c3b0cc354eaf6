"""A training's losses as rows of a table: what each phase began with, and what was kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cxrgaze_ray.models.curves import Curve


@dataclass(frozen=True)
class LossRow:
    """A phase's validation losses, of the weights that it began with, if known, and of the epoch that was kept."""

    phase: str
    epochs: int
    best: int
    before: float | None
    best_loss: float


def loss_rows(curves: Sequence[Curve]) -> list[LossRow]:
    """Return the rows of all phases that have finite losses."""
    return [
        LossRow(one.phase, len(one.train), one.best, one.before, one.kept)
        for one in curves
        if all(map(math.isfinite, (*one.train, *one.validation)))
    ]
