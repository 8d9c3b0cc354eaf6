"""Communication between ranks while they train; a single process is a world of one."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def any_rank(flags_N: Tensor) -> list[bool]:
    """Return for each flag whether it is set on any rank."""
    raised_N = flags_N.float()
    if dist.is_initialized():
        dist.all_reduce(raised_N, dist.ReduceOp.MAX)
    return [value > 0 for value in raised_N.tolist()]


def sums(values: list[float], device: torch.device) -> list[float]:
    """Return the sums of some values over all ranks."""
    if not dist.is_initialized():
        return values
    total_N = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total_N)
    found: list[float] = total_N.tolist()
    return found


def wait_for_all() -> None:
    """Return once every rank is here."""
    if dist.is_initialized():
        dist.barrier()


def share_buffers(module: nn.Module) -> None:
    """Give every rank the first one's batch-norm statistics, which are those that are kept."""
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def every_rank(tensor: Tensor) -> Tensor:
    """Return every rank's rows in the order in which they were dealt; gradients go back to their rank."""
    if not dist.is_initialized():
        return tensor
    gathered: Tensor = _Gather.apply(tensor)
    return gathered.flatten(0, 1)


class _Gather(torch.autograd.Function):
    """Maps a rank's rows (B, ...) to all ranks' (B, ranks, ...); torch's own function for this is deprecated."""

    @staticmethod
    def forward(_ctx: Any, tensor: Tensor) -> Tensor:
        whole = tensor.contiguous()
        parts = [torch.empty_like(whole) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, whole)
        return torch.stack(parts, dim=1)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        # every rank computed the same loss from all rows: DDP averages over ranks what is summed here
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[:, dist.get_rank()]
