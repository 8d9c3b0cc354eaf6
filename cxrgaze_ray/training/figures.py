"""What a training tells the metrics endpoint, from its first rank."""

from __future__ import annotations

import logging
import time
from typing import Any

from cxrgaze_ray import telemetry
from cxrgaze_ray.models.device import DeviceMeter
from cxrgaze_ray.telemetry import table
from cxrgaze_ray.telemetry.logs import event
from cxrgaze_ray.training.progress import EpochStep

_LOG = logging.getLogger(__name__)
_SPLITS = ("train", "validation")


class Figures:
    """Records steps and epochs.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str) -> None:
        self._meter = DeviceMeter("train", device)
        telemetry.record(table.RUN_START_TIME, time.time(), job="train")

    def step(self, step: EpochStep) -> None:
        """Record where the training is within an epoch."""
        told = {"stage": step.stage, "split": step.split}
        telemetry.record(table.TRAINING_PROGRESS, step.images / max(1, step.of), **told)
        telemetry.record(table.TRAINING_RATE, step.rate, **told)

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Record an epoch that is over."""
        stage = metrics["stage"]
        telemetry.record(table.TRAINING_EPOCH, metrics["epoch"], stage=stage)
        telemetry.record(table.TRAINING_EPOCH_SECONDS, metrics["seconds"], stage=stage)
        telemetry.record(table.TRAINING_WAITED, metrics["waited"], stage=stage)
        for split in _SPLITS:
            telemetry.record(table.TRAINING_LOSS, metrics[f"{split}_loss"], stage=stage, split=split)
        event(
            _LOG, "epoch finished", stage=stage, epoch=metrics["epoch"], loss=metrics["validation_loss"],
            seconds=metrics["seconds"],
        )  # fmt: skip
        self._meter.computed(metrics["seconds"] * (1 - metrics["waited"]))
