"""What moves the weights: optimiser, learning rate at any moment, and the limit on gradients.

A rate is a function of the settings, of where in the phase a step is, and of the losses of the epochs before. It is
kept in no state, so that a training that goes on after a kill, be it within an epoch, cannot disagree with one that was
left alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Adam, AdamW

from cxrgaze_ray.training.phase_settings import StageSettings

_PLATEAU_FACTOR = 0.1
_WARMUP_START = 0.01


def make_optimiser(learning: Sequence[nn.Parameter], settings: StageSettings, device: torch.device) -> Adam:
    """Return the optimiser of a phase; on an accelerator all of a step is one kernel."""
    kind: type[Adam] = {"adam": Adam, "adamw": AdamW}[settings.optimiser]
    return kind(
        learning,
        lr=settings.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=True if device.type == "cuda" else None,
    )


def learning_rate(settings: StageSettings, epochs: float, losses: Sequence[float] = ()) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    settings
        Settings of the phase.
    epochs
        Epochs of the phase, whole and parts, that were taken before the step.
    losses
        Validation losses of the whole ones.
    """
    if epochs < settings.warmup:
        return settings.lr * (_WARMUP_START + (1 - _WARMUP_START) * epochs / settings.warmup)
    if settings.plateau is not None:
        return settings.lr * _PLATEAU_FACTOR ** plateaus(losses, settings.plateau)
    if settings.schedule == "cosine":
        done = (epochs - settings.warmup) / max(settings.epochs - settings.warmup, 1e-9)
        return settings.lr * (1 + math.cos(math.pi * min(done, 1.0))) / 2
    return settings.lr


def set_rate(optimiser: Adam, rate: float) -> None:
    """Let the optimiser's next step learn at a rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def shorten(
    learning: Sequence[nn.Parameter], optimiser: Adam, scaler: torch.amp.GradScaler, clip: float | None
) -> None:
    """Shorten the gradients to a norm, if one is given; call it between backward pass and step."""
    if clip is not None:
        scaler.unscale_(optimiser)  # nothing without a scale; the step knows that it is done
        nn.utils.clip_grad_norm_(learning, clip)


def plateaus(losses: Sequence[float], patience: int) -> int:
    """Count how often `patience` epochs and one more went by without a better loss, as ReduceLROnPlateau counts.

    As there, a loss is better if it is lower by more than a ten-thousandth of the best.
    """
    best, bad, count = math.inf, 0, 0
    for loss in losses:
        if loss < best * (1 - 1e-4):
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            count, bad = count + 1, 0
    return count
