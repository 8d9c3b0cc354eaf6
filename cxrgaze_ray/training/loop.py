"""Walk the stages: epochs, validation, best weights, early stopping. Runs on one process or many; no Ray here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.models.network import Network
from cxrgaze_ray.training.checkpoint import (
    Checkpoint,
    Standing,
    hand_over,
    load_optimiser_state,
    load_rng_state,
    optimiser_state,
    rng_state,
    snapshot,
)
from cxrgaze_ray.training.divergence import DivergenceWatch
from cxrgaze_ray.training.feed import Feed
from cxrgaze_ray.training.ranks import share_buffers, sums
from cxrgaze_ray.training.recipes import RECIPES, STAGE_ORDER, StageName
from cxrgaze_ray.training.settings import StageSettings, TrainSettings
from cxrgaze_ray.training.stages import StageModule, trainable_state

_PLATEAU_FACTOR = 0.1


@dataclass(frozen=True)
class LoopHooks:
    """The loop's connections to its surroundings.

    Attributes
    ----------
    wrap
        Makes a stage's module train over all workers (DDP), or returns it unchanged.
    report
        Called after every epoch, by every rank, with the epoch's metrics, a function that makes the checkpoint, and
        whether the stage ends here, in which case a checkpoint must be kept.
    device
        Device to compute on.
    """

    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    report: Callable[[dict[str, Any], Callable[[], Checkpoint], bool], None] = lambda _metrics, _make, _ends: None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def run_loop(
    network: Network,
    train: Feed,
    validation: Feed,
    settings: TrainSettings,
    hooks: LoopHooks,
    resume: Checkpoint | None = None,
) -> Standing:
    """Train every stage of the settings in the recipe's order; the network ends with the best weights of the last.

    Parameters
    ----------
    network
        Network that is trained in place.
    train, validation
        Rows of the two splits.
    resume
        Checkpoint to continue from.

    Returns
    -------
    Standing
        Progress at the end, with the history of all epochs.
    """
    standing = resume.standing if resume else Standing()
    names: list[StageName] = list(settings.stages)
    network.to(hooks.device)
    for index in range(standing.stage, len(names)):
        standing = replace(standing, stage=index)
        stage = _Stage(network, names[index], train, validation, settings, hooks)
        standing = stage.run(standing, resume if resume and resume.standing.stage == index else None)
        resume = None
        standing = Standing(stage=index + 1, history=standing.history)
    return standing


class _Stage:
    """One phase: its module, optimiser, rows and best weights."""

    def __init__(
        self,
        network: Network,
        name: StageName,
        train: Feed,
        validation: Feed,
        settings: TrainSettings,
        hooks: LoopHooks,
    ) -> None:
        self.settings: StageSettings = settings.stages[name]
        self.stage, self.hooks, self.network, self.seed = (
            RECIPES[settings.system].stages[name],
            hooks,
            network,
            settings.seed,
        )
        self.size = self.stage.image_size(network.config)
        self.module = StageModule(network, self.stage, settings)
        self.wrapped = hooks.wrap(self.module)  # after freezing: DDP waits for the gradients of all that learns then
        self.learning = trainable_state(self.module)
        kind = {"adam": Adam, "adamw": AdamW}[self.settings.optimiser]
        self.optimiser = kind(self.learning, lr=self.settings.lr, weight_decay=self.settings.weight_decay)
        self.scaler = torch.amp.GradScaler(hooks.device.type, enabled=_half(hooks.device) == torch.float16)
        self.watch = DivergenceWatch(self.stage, self.settings.lr)
        self.train, self.validation = train.select(self.stage), validation.select(self.stage)
        if self.stage.objective == "fused_classes" and settings.caches():
            self.train, self.validation = self._cached(self.train), self._cached(self.validation)

    def run(self, standing: Standing, resume: Checkpoint | None) -> Standing:
        """Train to the last epoch or until patience ends; leave the best weights in the network."""
        best = snapshot(self.network) if resume is None else resume.best
        # each stage from its own seed: random draws depend neither on where a killed training resumed, nor on which
        # phases went before it in the same training
        torch.manual_seed(self.seed * 1000 + STAGE_ORDER.index(self.stage.name))
        if resume is not None and not self._finished(standing):
            self._restore(resume)
        while not self._finished(standing):
            started, epoch = time.perf_counter(), standing.epoch + 1
            self._set_rate(standing)
            losses = {"train": self._epoch(epoch), "validation": self._validate(epoch)}
            self.watch.weights(epoch, self.network)
            standing, improved = self._advance(standing, losses, time.perf_counter() - started)
            if improved:
                best = snapshot(self.network)
            make = partial(self._checkpoint, standing, best)
            self.hooks.report(standing.history[-1], make, self._finished(standing))
        hand_over(self.network, best)
        return standing

    def _checkpoint(self, standing: Standing, best: dict[str, Tensor]) -> Checkpoint:
        return Checkpoint(
            standing,
            model=snapshot(self.network),
            best=best,
            optimiser=optimiser_state(self.optimiser),
            rng=rng_state(self.hooks.device),
            scaler=self.scaler.state_dict(),
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        hand_over(self.network, checkpoint.model)
        load_optimiser_state(self.optimiser, checkpoint.optimiser)
        load_rng_state(checkpoint.rng, self.hooks.device)
        if checkpoint.scaler and self.scaler.is_enabled():
            self.scaler.load_state_dict(checkpoint.scaler)

    def _set_rate(self, standing: Standing) -> None:
        """Set the learning rate of the next epoch; it follows from the history alone, so a resumed stage has it too."""
        if self.settings.plateau is None:
            return
        past = [metrics["validation_loss"] for metrics in standing.history if metrics["stage"] == self.stage.name]
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.lr * _PLATEAU_FACTOR ** plateaus(past, self.settings.plateau)

    def _finished(self, standing: Standing) -> bool:
        out_of_patience = standing.epoch - standing.best_epoch >= self.settings.patience
        return standing.epoch >= self.settings.epochs or out_of_patience

    def _advance(self, standing: Standing, losses: dict[str, float], seconds: float) -> tuple[Standing, bool]:
        epoch = standing.epoch + 1
        best = standing.best_loss
        # an earlier version kept a first loss of NaN, and no value is less than that
        improved = best is None or math.isnan(best) or losses["validation"] < best
        metrics = {
            "stage": self.stage.name,
            "epoch": epoch,
            "epochs": self.settings.epochs,
            "train_loss": losses["train"],
            "validation_loss": losses["validation"],
            "best": improved,
            "seconds": round(seconds, 3),
            "images": len(self.train),
        }
        ahead = replace(standing, epoch=epoch, history=[*standing.history, metrics])
        if improved:
            ahead = replace(ahead, best_loss=losses["validation"], best_epoch=epoch)
        return ahead, improved

    def _epoch(self, epoch: int) -> float:
        self.module.train()
        measured = []
        batches = self.train.shuffled(epoch - 1, self.settings.batch, self.size, augment=self.settings.augment)
        for step, batch in enumerate(batches, 1):
            with _autocast(self.hooks.device):
                loss, weight = self.wrapped(batch.to(self.hooks.device))
            self.optimiser.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
            scaled = self.scaler.is_enabled()
            self.watch.step(epoch, step, loss, None if scaled else self.learning)
            self.scaler.step(self.optimiser)
            self.scaler.update()
            if scaled:
                self.watch.scale(epoch, step, self.scaler.get_scale())
            measured.append((float(loss.detach()), weight))
        return self._mean("training", measured)

    @torch.no_grad()
    def _validate(self, epoch: int) -> float:
        self.module.eval()
        share_buffers(self.module)
        measured = []
        for step, batch in enumerate(self.validation.in_order(self.settings.batch, self.size), 1):
            with _autocast(self.hooks.device):
                loss, weight = self.module(batch.to(self.hooks.device))
            self.watch.validation(epoch, step, loss)
            measured.append((float(loss), weight))
        return self._mean("validation", measured)

    def _mean(self, split: str, measured: list[tuple[float, int]]) -> float:
        """Return the mean over the batches of all ranks, weighted.

        Raises
        ------
        UserError
            If all weights are zero because no batch held a triplet.
        """
        total, count = 0.0, 0.0
        for loss, weight in measured:  # sum() rounds differently from one Python to the next
            total, count = total + loss * weight, count + weight
        total, count = sums([total, count], self.hooks.device)
        if not count:
            raise UserError(
                f"No batch of the {split} split holds a triplet, which phase {self.stage.name} learns from: two images "
                "of a class and one of another.",
                f"Ingest more images, raise stages.{self.stage.name}.batch, or leave the phase out.",
            )
        return total / count

    def _cached(self, feed: Feed) -> Feed:
        """Compute the fused features of every row once: all layers before them are frozen, and dropout comes after."""
        self.module.eval()
        fused: dict[str, Tensor] = {}
        for ids, batch in feed.with_ids(self.settings.batch, self.size):
            with _autocast(self.hooks.device):
                features_BF = self.module.fuse(batch.image_BCHW.to(self.hooks.device))
            fused |= dict(zip(ids, features_BF.float().cpu(), strict=True))
        return feed.with_fused(fused)


def plateaus(losses: list[float], patience: int) -> int:
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


def _half(device: torch.device) -> torch.dtype | None:
    """Return the reduced precision that a device trains in, if any."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _autocast(device: torch.device) -> AbstractContextManager[Any]:
    half = _half(device)
    return torch.autocast(device.type, half) if half else nullcontext()
