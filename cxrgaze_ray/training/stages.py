"""A network seen as one phase: the parts that learn, one step's input, and its loss. No epochs, files or Ray here.

Tensor names carry their shape: B batch, H x W the stage's image size, K classes, F fused features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cxrgaze_ray.models.losses import classification_loss, saliency_loss, triplet_loss, triplet_weight
from cxrgaze_ray.models.network import Network
from cxrgaze_ray.training.ranks import every_rank
from cxrgaze_ray.training.recipes import Objective, Stage
from cxrgaze_ray.training.settings import TrainSettings
from cxrgaze_ray.training.together import Dealt


@dataclass(frozen=True)
class Batch:
    """A rank's part of one step's input: image float32 in [0,1], label int64, gaze float32 summing to 1.

    Attributes
    ----------
    features_BX
        What frozen layers make of the images, if that is cached: see `features`. Images and gaze may be empty then.
    repeats
        Number of rows at its end that repeat others, only to make the ranks' parts equally large.
    share
        What a mean over its rows counts for where gradients are averaged over ranks: 1 if all parts are equal.
    rows
        Rows of the step's batch, over all ranks.
    """

    image_BCHW: Tensor
    label_B: Tensor
    gaze_BHW: Tensor
    features_BX: Tensor | None = None
    repeats: int = 0
    share: float = 1.0
    rows: int = 0

    @property
    def weight(self) -> int:
        """Number of rows that count: all but the repeated ones."""
        return len(self.label_B) - self.repeats

    def counts(self) -> Tensor:
        """Return 1 for each row that counts, 0 for each repeated one."""
        return (torch.arange(len(self.label_B), device=self.label_B.device) < self.weight).long()

    def counted(self) -> Batch:
        """Return the rows that count; if none does, all of them, because the mean of none is not a number."""
        keep = self.weight or len(self.label_B)
        return self._map(lambda tensor: tensor[:keep], self.repeats if keep > self.weight else 0)

    def to(self, device: torch.device) -> Batch:
        """Move the tensors to a device; pinned ones arrive while it computes."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True), self.repeats)

    def pinned(self) -> Batch:
        """Return the batch in page-locked memory."""
        return self._map(lambda tensor: tensor.pin_memory(), self.repeats)

    def _map(self, change: Callable[[Tensor], Tensor], repeats: int) -> Batch:
        features = None if self.features_BX is None else change(self.features_BX)
        moved = change(self.image_BCHW), change(self.label_B), change(self.gaze_BHW), features
        return Batch(*moved, repeats, self.share, self.rows)


class Measured(NamedTuple):
    """A batch's mean loss, and what it counts for.

    Attributes
    ----------
    loss
        float32 scalar.
    weight
        How much it weighs in a mean over batches and ranks.
    share
        What its gradient is multiplied with before ranks average theirs: the step is then that of one process.
    """

    loss: Tensor
    weight: int
    share: float = 1.0


class StageModule(nn.Module):
    """The network seen as one phase: forward() is the loss, so that DDP can wrap it.

    Parameters
    ----------
    network
        Network shared by all stages; only this stage's parts will learn.
    dealt
        What layers that look at the whole batch are told of it: see `together`.
    """

    def __init__(self, network: Network, stage: Stage, settings: TrainSettings, dealt: Dealt | None = None) -> None:
        super().__init__()
        self.dealt = dealt or Dealt()
        self.network: Any = network  # what a phase calls beside forward() only the networks of its recipe have
        self.stage = stage
        self.settings = settings
        network.requires_grad_(False)
        for part in self.learning():
            part.requires_grad_(True)

    def learning(self) -> list[nn.Module]:
        """Return the modules that learn in this stage."""
        parts = {"whole": [self.network], **self.network.parts()}
        return [module for name in self.stage.trains for module in parts[name]]

    def train(self, mode: bool = True) -> StageModule:
        """Set the learning parts to train or eval mode; frozen ones stay in eval, buffers and all.

        In train mode a frozen batch norm would normalise by the batch, and its statistics would drift away from those
        that the other parts learned with, although no gradient reaches it.
        """
        super().train(mode and self.settings.legacy_batchnorm_drift)
        self.training = mode  # the phase's own flag, however many of its parts are frozen
        for part in self.learning():
            part.train(mode)
        return self

    def forward(self, batch: Batch) -> Measured:
        """Return the batch's loss, weighted by the rank's rows, or in the contrastive phase by what all ranks mined.

        Rows that repeat others to make the ranks' shares even have no part in it; a rank that has no others computes
        with one, which every rank's collective operations wait for, and it counts for nothing.
        """
        self.dealt.rows, self.dealt.counts = batch.rows, batch.weight > 0
        if self.stage.objective == "triplet":
            return self._contrastive(batch)
        loss = _LOSSES[self.stage.objective](self.network, batch.counted())
        return Measured(loss, batch.weight, batch.share)

    def _contrastive(self, batch: Batch) -> Measured:
        """Mine the whole batch, of which each rank holds a part; a repeated row is not a positive of itself."""
        counts_B = every_rank(batch.counts()).bool()
        own_BCHW = self.network.tap(batch.counted().image_BCHW)
        missing = len(batch.label_B) - len(own_BCHW)
        filled_BCHW = torch.cat([own_BCHW, own_BCHW.new_zeros(missing, *own_BCHW.shape[1:])]) if missing else own_BCHW
        raw_BCHW = every_rank(filled_BCHW)[counts_B]
        labels_B = every_rank(batch.label_B)[counts_B]
        loss = triplet_loss(raw_BCHW, labels_B, mining=self.settings.triplet)
        return Measured(loss, triplet_weight(labels_B, self.settings.triplet))

    @torch.no_grad()
    def frozen(self, image_BCHW: Tensor) -> Tensor:
        """Return what the frozen parts make of images, if the phase `caches`.

        DenseNet's features (B, C, h, w) for the saliency phase, in whatever precision they were computed in; fused ones
        (B, F), float32, for the classifier phase.
        """
        if self.stage.objective == "saliency":
            deep_BCHW: Tensor = self.network.features(image_BCHW)[0]
            return deep_BCHW
        fused_BF: Tensor = self.network.fused(image_BCHW)
        return fused_BF.float()


def _fused_classes(network: Any, batch: Batch) -> Tensor:
    fused_BF = batch.features_BX
    if fused_BF is None:
        with torch.no_grad():
            fused_BF = network.fused(batch.image_BCHW)
    return classification_loss(network.classify(fused_BF), batch.label_B)


def _saliency(network: Any, batch: Batch) -> Tensor:
    cached = () if batch.features_BX is None else (batch.features_BX,)
    return saliency_loss(network.saliency(batch.image_BCHW, *cached), batch.gaze_BHW)


def _joint(network: Any, batch: Batch) -> Tensor:
    output = network(batch.image_BCHW)
    loss: Tensor = network.joint_loss(output.logits_BK, batch.label_B, output.log_saliency_B1HW, batch.gaze_BHW)
    return loss


_LOSSES: dict[Objective, Callable[[Any, Batch], Tensor]] = {
    "densenet_classes": lambda network, batch: classification_loss(
        network.densenet_logits(batch.image_BCHW), batch.label_B
    ),
    "saliency": _saliency,
    "fused_classes": _fused_classes,
    "joint": _joint,
    "classes": lambda network, batch: classification_loss(
        network(batch.image_BCHW, batch.gaze_BHW).logits_BK, batch.label_B
    ),
}
"""Loss of each objective but the triplets, which are mined over all ranks."""


def trainable_state(module: StageModule) -> list[nn.Parameter]:
    """Return the parameters that this stage's optimiser steps."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
