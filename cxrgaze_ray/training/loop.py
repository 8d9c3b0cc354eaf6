"""Walk the stages: epochs, validation, best weights, early stopping. Runs on one process or many; no Ray here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cxrgaze_ray.models.network import Network
from cxrgaze_ray.training.beforehand import check_rows
from cxrgaze_ray.training.checkpoint import (
    Checkpoint,
    Standing,
    Within,
    hand_over,
    load_optimiser_state,
    load_rng_states,
    optimiser_state,
    rng_states,
    snapshot,
)
from cxrgaze_ray.training.compute import Compute
from cxrgaze_ray.training.features import FeatureCache
from cxrgaze_ray.training.feed import Feed
from cxrgaze_ray.training.keeper import Make
from cxrgaze_ray.training.progress import EpochStep, Pace
from cxrgaze_ray.training.recipes import RECIPES, STAGE_ORDER, Stage, StageName
from cxrgaze_ray.training.settings import StageSettings, TrainSettings
from cxrgaze_ray.training.steps import Steps
from cxrgaze_ray.training.tally import Tally


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
    offer
        Called after every step, by every rank, with a function that makes the checkpoint, for whoever wants one: all
        ranks call it then, before the next step.
    on_step
        Called after every step, by every rank, with where the training is.
    device
        Device to compute on.
    tell
        Called with sentences for the user.
    cache
        Keeps what frozen layers make of the images.
    """

    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    report: Callable[[dict[str, Any], Make, bool], None] = lambda _metrics, _make, _ends: None
    offer: Callable[[Make], None] = lambda _make: None
    on_step: Callable[[EpochStep], None] = lambda _step: None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    tell: Callable[[str], None] = lambda _: None
    cache: FeatureCache = field(default_factory=FeatureCache)


def run_loop(
    network: Network,
    train: Feed,
    validation: Feed,
    settings: TrainSettings,
    hooks: LoopHooks,
    resume: Checkpoint | None = None,
    *,
    warm: bool = False,
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
    warm
        Whether the network was trained before: a phase then keeps the weights that it began with unless it betters
        them. Of a fresh network it keeps its best epoch's, as the paper's recipe does.

    Returns
    -------
    Standing
        Progress at the end, with the history of all epochs.

    Raises
    ------
    UserError
        See `check_rows`.
    TrainingDiverged
        If a loss, gradient or weight is not finite.
    """
    standing = resume.standing if resume else Standing()
    names: list[StageName] = list(settings.stages)
    check_rows(train.rows, validation.rows, settings, names[standing.stage :])
    compute = Compute(hooks.device, settings, hooks.tell)
    compute.place(network)
    for index in range(standing.stage, len(names)):
        standing = replace(standing, stage=index)
        stage = _Stage(network, names[index], train, validation, settings, hooks, compute, warm=warm)
        over = stage.finished(standing)
        standing = stage.run(standing, resume if resume and resume.standing.stage == index else None)
        resume = None
        if train.world.rank == 0 and not over:  # else what is there may be the next phase's, from before a kill
            hooks.cache.clear()
        standing = Standing(stage=index + 1, history=standing.history)
    return standing


class _Stage:
    """One phase: its epochs, best weights and patience."""

    steps: Steps

    def __init__(
        self,
        network: Network,
        name: StageName,
        train: Feed,
        validation: Feed,
        settings: TrainSettings,
        hooks: LoopHooks,
        compute: Compute,
        *,
        warm: bool,
    ) -> None:
        self.warm = warm
        self.settings: StageSettings = settings.stages[name]
        self.stage: Stage = RECIPES[settings.system].stages[name]
        self.network, self.hooks, self.seed = network, hooks, settings.seed
        self.waited = 0.0
        """Share of an epoch's time that its steps waited for images."""

        self._begin = partial(Steps, network, self.stage, train, validation, settings, compute, hooks.wrap, hooks.cache)

    def run(self, standing: Standing, resume: Checkpoint | None) -> Standing:
        """Train to the last epoch or until patience ends; leave the best weights in the network."""
        best = snapshot(self.network) if resume is None else resume.best
        if self.finished(standing):  # killed just then: nothing is got ready for it, such as features that were removed
            hand_over(self.network, best)
            return standing
        self.steps = self._begin()
        # each stage from its own seed: random draws depend neither on where a killed training resumed, nor on which
        # phases went before it in the same training
        torch.manual_seed(self.seed * 1000 + STAGE_ORDER.index(self.stage.name))
        if resume is not None:
            self._restore(resume)
        if resume is None or (standing.within or Within()).part == "before":
            standing = self._look_beforehand(standing, best)
        while not self.finished(standing):
            losses, seconds = self._epoch(standing, best)
            self.steps.watch.weights(standing.epoch + 1, self.network)
            standing, improved = self._advance(standing, losses, seconds)
            if improved:
                best = snapshot(self.network)
            make = partial(self._checkpoint, standing, best)
            self.hooks.report(standing.history[-1], make, self.finished(standing))
        if told := self._no_better(standing):
            self.hooks.tell(told)
        hand_over(self.network, best)
        return standing

    def _look_beforehand(self, standing: Standing, best: dict[str, Tensor]) -> Standing:
        """Measure the weights that the phase begins with.

        In eval mode nothing is drawn at random: what comes after is as if nobody had looked.
        """
        within = standing.within or Within("before")
        pace = self.steps.pace("validation", within.steps)

        def offer(tally: Tally) -> None:
            self._tell(0, "validation", pace, tally.steps)
            now = replace(within, steps=tally.steps)
            self.hooks.offer(partial(self._checkpoint, replace(standing, within=now), best, tally))

        before = self.steps.validate(0, Tally.resumed(within), offer)
        return replace(standing, before=before, best_loss=before if self.warm else None, within=None)

    def _no_better(self, standing: Standing) -> str:
        """Return a sentence if no epoch was better than what the phase began with, else nothing."""
        losses = [metrics["validation_loss"] for metrics in standing.history if metrics["stage"] == self.stage.name]
        if standing.before is None or not losses or min(losses) < standing.before:
            return ""
        kept = "those weights are kept" if self.warm else "the best epoch's weights are kept all the same"
        return (
            f"Warning: no epoch of phase {self.stage.name} was better than the weights that it began with (validation "
            f"loss {standing.before:.4g}, lowest after {min(losses):.4g}): {kept}."
        )

    def _epoch(self, standing: Standing, best: dict[str, Tensor]) -> tuple[dict[str, float], float]:
        """Train and validate for an epoch, or for what is left of it; return mean losses and seconds."""
        within, epoch = standing.within or Within(), standing.epoch + 1
        begun, waited = time.perf_counter(), self.steps.waited_s
        started = begun - within.seconds
        pace = self.steps.pace(within.part, within.steps)

        def offer(tally: Tally) -> None:
            self._tell(epoch, within.part, pace, tally.steps)
            now = replace(within, steps=tally.steps, seconds=time.perf_counter() - started)
            self.hooks.offer(partial(self._checkpoint, replace(standing, within=now), best, tally))

        if within.part == "train":
            past = [metrics["validation_loss"] for metrics in standing.history if metrics["stage"] == self.stage.name]
            loss = self.steps.train(epoch, past, Tally.resumed(within), offer)
            within, pace = Within("validation", train_loss=loss), self.steps.pace("validation")  # what is told from now
        losses = {"validation": self.steps.validate(epoch, Tally.resumed(within), offer), "train": within.train_loss}
        ended = time.perf_counter()
        self.waited = (self.steps.waited_s - waited) / (ended - begun)
        return losses, ended - started

    def _tell(self, epoch: int, split: str, pace: Pace, steps: int) -> None:
        epochs = self.settings.epochs
        step = EpochStep(self.stage.name, epoch, epochs, split, pace.images(steps), pace.of, pace.rate(steps))
        self.hooks.on_step(step)

    def _checkpoint(self, standing: Standing, best: dict[str, Tensor], tally: Tally | None = None) -> Checkpoint:
        """Return everything that the next step depends on; every rank must call this."""
        device = self.hooks.device
        if standing.within is not None and tally is not None:
            standing = replace(standing, within=replace(standing.within, sums=tally.of_ranks(device)))
        return Checkpoint(
            standing,
            model=snapshot(self.network),
            best=best,
            optimiser=optimiser_state(self.steps.optimiser),
            rng=rng_states(device),
            scaler=self.steps.scaler.state_dict(),
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        hand_over(self.network, checkpoint.model)
        load_optimiser_state(self.steps.optimiser, checkpoint.optimiser)
        load_rng_states(checkpoint.rng, self.hooks.device)
        if checkpoint.scaler and self.steps.scaler.is_enabled():
            self.steps.scaler.load_state_dict(checkpoint.scaler)

    def finished(self, standing: Standing) -> bool:
        """Return whether the phase is over."""
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
            "waited": round(self.waited, 4),
            "images": self.steps.images,
        }
        if epoch == 1 and standing.before is not None:
            metrics["before"] = standing.before
        ahead = replace(standing, epoch=epoch, history=[*standing.history, metrics], within=None)
        if improved:
            ahead = replace(ahead, best_loss=losses["validation"], best_epoch=epoch)
        return ahead, improved
