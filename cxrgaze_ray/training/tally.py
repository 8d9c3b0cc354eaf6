"""What an epoch's steps have added up to so far, on this rank; a resumed epoch goes on adding."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cxrgaze_ray.training.checkpoint import Within
from cxrgaze_ray.training.ranks import gathered, own_of, rank


@dataclass
class Tally:
    """A number of steps, this rank's weighted sum of their losses, and the sum of the weights."""

    steps: int = 0
    total: float = 0.0
    count: float = 0.0

    @classmethod
    def resumed(cls, within: Within) -> Tally:
        """Return this rank's tally; where the number of ranks has changed, the first one has all of it."""
        own = own_of(within.sums)
        if own is None:
            own = [sum(column) for column in zip(*within.sums, strict=True)] if rank() == 0 else []
        return cls(within.steps, *own)

    def add(self, loss: float, weight: float) -> None:
        """Count one more step."""
        self.steps, self.total, self.count = self.steps + 1, self.total + loss * weight, self.count + weight

    def of_ranks(self, device: torch.device) -> list[list[float]]:
        """Return the sums of every rank; all must call this."""
        own = torch.tensor([self.total, self.count], dtype=torch.float64)
        return [tensor.tolist() for tensor in gathered(own, device)]
