"""The steps of one phase: each of an epoch, forwards, backwards and the optimiser's, and each of its validation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cxrgaze_ray.models.network import Network
from cxrgaze_ray.training.compute import Compute
from cxrgaze_ray.training.divergence import DivergenceWatch
from cxrgaze_ray.training.features import FeatureCache, digest, room
from cxrgaze_ray.training.feed import Feed
from cxrgaze_ray.training.optimisers import learning_rate, make_optimiser, set_rate, shorten
from cxrgaze_ray.training.progress import Pace
from cxrgaze_ray.training.ranks import fewest, share_buffers, sums
from cxrgaze_ray.training.recipes import Stage
from cxrgaze_ray.training.settings import StageSettings, TrainSettings
from cxrgaze_ray.training.stages import Batch, StageModule, trainable_state
from cxrgaze_ray.training.tally import Tally
from cxrgaze_ray.training.together import work_together


class Steps:
    """A phase's module, optimiser and rows, and the steps that they take together.

    Parameters
    ----------
    network
        Network shared by all phases; only this phase's parts will learn.
    train, validation
        Rows of the two splits.
    compute
        How the device computes.
    wrap
        Makes the phase's module train over all workers (DDP), or returns it unchanged.
    cache
        Keeps what frozen layers make of the images.
    """

    def __init__(
        self,
        network: Network,
        stage: Stage,
        train: Feed,
        validation: Feed,
        settings: TrainSettings,
        compute: Compute,
        wrap: Callable[[nn.Module], nn.Module],
        cache: FeatureCache,
    ) -> None:
        self.stage, self.compute, self.device, self.cache = stage, compute, compute.device, cache
        self.settings: StageSettings = settings.stages[stage.name]
        self.size = stage.image_size(network.config)
        dealt = work_together(network, train.world, norms=settings.sync_batchnorm)
        self.module = StageModule(network, stage, settings, dealt)
        self.learning = trainable_state(self.module)
        self.optimiser = make_optimiser(self.learning, self.settings, self.device)
        self.scaler = compute.scaler()
        self.watch = DivergenceWatch(stage, self.settings.lr)
        self.training, self.validation = train.select(stage), validation.select(stage)
        if settings.caches(stage.name):
            most = fewest(min(settings.cache_gib * 2**30, room(train.world.here)), self.device)
            self.training, self.validation = self._cached(self.training, most), self._cached(self.validation, most)
        compute.compile(self.module, self._example)
        self.wrapped = wrap(self.module)  # after freezing: DDP waits for the gradients of all that learns then

    @property
    def waited_s(self) -> float:
        """Seconds that steps have waited for their images so far."""
        return self.training.waited_s

    @property
    def images(self) -> int:
        """Number of images that an epoch trains on."""
        return len(self.training)

    def pace(self, split: str, steps: int = 0) -> Pace:
        """Return the measure of how fast a split's steps take images, from a step on."""
        return Pace(len(self.training if split == "train" else self.validation), self.settings.batch, steps)

    def train(self, epoch: int, past: list[float], tally: Tally, offer: Callable[[Tally], None]) -> float:
        """Take the steps of an epoch that are left, and return its mean loss.

        Parameters
        ----------
        epoch
            Number of the epoch, from 1.
        past
            Validation losses of the epochs before it.
        tally
            What the steps taken so far add up to.
        offer
            Called after every step with the tally.
        """
        self.module.train()
        steps = self.training.steps(self.settings.batch)
        batches = self.training.shuffled(
            epoch - 1, self.settings.batch, self.size, augment=self.settings.augment, start=tally.steps
        )
        for step, batch in enumerate(batches, tally.steps + 1):
            set_rate(self.optimiser, learning_rate(self.settings, epoch - 1 + (step - 1) / steps, past))
            with self.compute.autocast():
                loss, weight, share = self.wrapped(batch.to(self.device))
            self.optimiser.zero_grad(set_to_none=True)
            self.scaler.scale(loss * share).backward()
            scaled = self.scaler.is_enabled()
            self.watch.step(epoch, step, loss, None if scaled else self.learning)
            shorten(self.learning, self.optimiser, self.scaler, self.settings.clip)
            self.scaler.step(self.optimiser)
            self.scaler.update()
            if scaled:
                self.watch.scale(epoch, step, self.scaler.get_scale())
            tally.add(float(loss.detach()), weight)
            offer(tally)
        return self._mean(tally)

    @torch.no_grad()
    def validate(self, epoch: int, tally: Tally, offer: Callable[[Tally], None]) -> float:
        """Return the mean loss of an epoch over the validation split; see `train`."""
        self.module.eval()
        share_buffers(self.module)
        batches = self.validation.in_order(self.settings.batch, self.size, start=tally.steps)
        for step, batch in enumerate(batches, tally.steps + 1):
            with self.compute.autocast():
                loss, weight, _ = self.module(batch.to(self.device))
            self.watch.validation(epoch, step, loss)
            tally.add(float(loss), weight)
            offer(tally)
        return self._mean(tally)

    def _example(self) -> Batch:
        return next(self.training.in_order(self.settings.batch, self.size)).to(self.device)

    def _mean(self, tally: Tally) -> float:
        """Return the mean over the batches of all ranks, weighted; `check_rows` has seen that something weighs."""
        total, count = sums([tally.total, tally.count], self.device)
        return total / count

    def _cached(self, feed: Feed, most_bytes: float) -> Feed:
        """Compute what frozen layers make of every row once: nothing that changes comes before them."""
        self.module.eval()
        weights = digest(self.module.network, self.module.learning())
        of = (self.stage.name, weights, self.device.type, self.compute.half)
        features = self.cache.features(
            feed, self.frozen, of=of, batch=self.settings.batch, size=self.size, most_bytes=int(most_bytes)
        )
        if features is None:
            self.compute.tell(
                f"Features of {len(feed)} images for phase {self.stage.name} would take more than cache_gib allows, or "
                "than the folder for temporary files has room for: they are computed in every step."
            )
            return feed
        return feed.with_features(features, pixels=self.stage.objective == "saliency")

    def frozen(self, batch: Batch) -> Tensor:
        """Return what the frozen layers make of a batch: see `StageModule.frozen`."""
        with self.compute.autocast():
            return self.module.frozen(batch.image_BCHW.to(self.device))
