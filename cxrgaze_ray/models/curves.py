"""A training's losses by epoch, as a bundle carries them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cxrgaze_ray.config import Record


class Curve(Record):
    """Mean losses of one phase's epochs."""

    phase: str
    train: tuple[float, ...]
    validation: tuple[float, ...]
    best: int
    """Number of the epoch, from 1, whose weights were kept; 0 for those that the phase began with."""

    before: float | None = None
    """Mean validation loss of the weights that the phase began with; None in earlier bundles."""

    @property
    def started(self) -> float:
        """Return the validation loss to measure progress by: before the phase, or in earlier bundles its first."""
        return self.validation[0] if self.before is None else self.before

    @property
    def kept(self) -> float:
        """Return the validation loss of the weights that were kept."""
        return self.validation[self.best - 1] if self.best else self.started

    @property
    def kept_weights(self) -> str:
        """Return which weights were kept, in words."""
        return f"epoch {self.best}" if self.best else "what it began with"


def curves_of(history: Iterable[Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Return the curves of a training's phases, in order, from the metrics of its epochs."""
    phases: dict[str, list[Mapping[str, Any]]] = {}
    for epoch in history:
        phases.setdefault(epoch["stage"], []).append(epoch)
    return tuple(
        Curve(
            phase=phase,
            train=tuple(epoch["train_loss"] for epoch in epochs),
            validation=tuple(epoch["validation_loss"] for epoch in epochs),
            before=epochs[0].get("before"),
            best=max((epoch["epoch"] for epoch in epochs if epoch["best"]), default=0),
        )
        for phase, epochs in phases.items()
    )


def epoch_figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return an epoch's losses and images a second, named ``<phase>/train_loss`` and so on, for those who watch it."""
    rate = metrics["images"] / max(metrics["seconds"], 1e-3)
    values = {name: metrics[name] for name in ("train_loss", "validation_loss")} | {"images_per_second": rate}
    return {f"{metrics['stage']}/{name}": value for name, value in values.items()}
