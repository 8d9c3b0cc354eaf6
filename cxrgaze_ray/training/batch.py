"""What one step learns from: the tensors that a feed makes and a stage takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A rank's part of one step's input: image float32 in [0,1], label int64, gaze float32 summing to 1.

    Attributes
    ----------
    fused_BF
        Fused features instead of images and gaze, if they are cached.
    repeats
        Rows at its end that stand elsewhere too, and only make the ranks' parts equally large.
    """

    image_BCHW: Tensor
    label_B: Tensor
    gaze_BHW: Tensor
    fused_BF: Tensor | None = None
    repeats: int = 0

    @property
    def weight(self) -> int:
        """Rows that count: all but the repeated ones."""
        return len(self.label_B) - self.repeats

    def counts(self) -> Tensor:
        """Return 1 for each row that counts, 0 for each repeated one."""
        return (torch.arange(len(self.label_B), device=self.label_B.device) < self.weight).long()

    def counted(self) -> Batch:
        """Return the rows that count; where none does, all of them, for a mean of none is not a number."""
        keep = self.weight or len(self.label_B)
        return self._map(lambda tensor: tensor[:keep], self.repeats if keep > self.weight else 0)

    def to(self, device: torch.device) -> Batch:
        """Move the tensors to a device."""
        return self._map(lambda tensor: tensor.to(device), self.repeats)

    def _map(self, change: Callable[[Tensor], Tensor], repeats: int) -> Batch:
        fused = None if self.fused_BF is None else change(self.fused_BF)
        return Batch(change(self.image_BCHW), change(self.label_B), change(self.gaze_BHW), fused, repeats)
