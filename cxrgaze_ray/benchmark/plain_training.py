"""The plain way of each training phase, as the paper's released code goes about it: what ours is measured against.

Images are read on the step's own thread, Adam steps parameter by parameter, and nothing is kept from one step to the
next: triplets are formed one by one, saliency computes DenseNet in every step, and the classifier learns in one script
with the saliency path, forwards and backwards through both.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.nn import functional
from torch.optim import Adam

from cxrgaze_ray.training.compute import Compute
from cxrgaze_ray.training.stages import Batch, StageModule, trainable_state


def pairwise_triplets(maps_BCHW: Tensor, labels_B: Tensor, margin: float = 1.0) -> float:
    """Take the contrastive loss of a batch forwards and backwards, one triplet after the other; return the loss.

    The sum over triplets of hinges between un-pooled maps' rows. Gradients are collected anchor by anchor: the graph of
    all triplets at once, thousands at batch 32, would not fit into memory.
    """
    labels, total = labels_B.tolist(), 0.0
    for anchor, label in enumerate(labels):
        # split up once an anchor: the gradient of every slice would be as large as the batch
        rows = [map_CHW[None] for map_CHW in maps_BCHW.unbind()]
        loss = rows[anchor].sum() * 0.0
        for positive, other in enumerate(labels):
            if positive == anchor or other != label:
                continue
            for negative, third in enumerate(labels):
                if third != label:
                    loss = loss + functional.triplet_margin_loss(
                        rows[anchor], rows[positive], rows[negative], margin=margin
                    )
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


class PlainPhase:
    """A phase of which every step computes everything."""

    def __init__(self, module: StageModule, lr: float, compute: Compute) -> None:
        self._module, self._compute = module.train(), compute
        self._optimiser = Adam(trainable_state(module), lr=lr, foreach=False)

    def epoch(self, batches: Iterable[Batch]) -> None:
        """Learn from each batch."""
        for batch in batches:
            self.step(batch.to(self._compute.device))

    def step(self, batch: Batch) -> float:
        """Learn from a batch on the device; return its loss."""
        with self._compute.autocast():
            loss: Tensor = self._module(batch).loss
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return float(loss.detach())
