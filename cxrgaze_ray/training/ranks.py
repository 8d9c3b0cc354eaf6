"""Communication between ranks while they train; a single process is a world of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cxrgaze_ray.errors import CxrgazeError

Part = TypeVar("Part")
Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """The workers of a training as one of them sees them: its rank, their number, and how many are on its machine."""

    rank: int = 0
    size: int = 1
    here: int = 1


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


def of_the_first(look: Callable[[], Value]) -> Value:
    """Return what the first rank alone finds, on every rank: a store may look otherwise to one that looks later.

    What the first rank raises on purpose is raised on every rank: the others would wait for it.
    """
    if not dist.is_initialized():
        return look()
    found = [_looked(look) if rank() == 0 else None]
    dist.broadcast_object_list(found, 0)
    if isinstance(found[0], CxrgazeError):
        raise found[0]
    return cast("Value", found[0])


def _looked(look: Callable[[], Value]) -> Value | CxrgazeError:
    try:
        return look()
    except CxrgazeError as error:
        return error


def wait_for_all() -> None:
    """Return once every rank is here."""
    if dist.is_initialized():
        dist.barrier()


def share_buffers(module: nn.Module) -> None:
    """Give every rank the first one's batch-norm statistics, which are those that are kept."""
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """Have this rank compute without the others while the block runs, as if all had its rows."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def every_rank(tensor: Tensor) -> Tensor:
    """Return every rank's rows in the order in which they were dealt; gradients go back to their rank."""
    return _every_rank(tensor) if dist.is_initialized() else tensor


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _every_rank(tensor: Tensor) -> Tensor:
    every: Tensor = _Gather.apply(tensor)
    return every.flatten(0, 1)


def stacked(tensor: Tensor) -> Tensor:
    """Return every rank's tensor (ranks, ...), without gradients."""
    whole = tensor.contiguous()
    parts = [whole if _alone else torch.empty_like(whole) for _ in range(dist.get_world_size())]
    if not _alone:
        dist.all_gather(parts, whole)
    return torch.stack(parts)


def add_up(tensor: Tensor) -> None:
    """Make a tensor the sum of every rank's."""
    if not _alone:
        dist.all_reduce(tensor)


class _Gather(torch.autograd.Function):
    """Maps a rank's rows (B, ...) to all ranks' (B, ranks, ...); torch's own function for this is deprecated."""

    @staticmethod
    def forward(_ctx: Any, tensor: Tensor) -> Tensor:
        return stacked(tensor).transpose(0, 1)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        # every rank computed the same loss from all rows: DDP averages over ranks what is summed here
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        add_up(total)
        return total[:, dist.get_rank()]


def rank() -> int:
    """Return this process's number among the ranks, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """Return the number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def most(value: int, device: torch.device) -> int:
    """Return the largest of a value over all ranks; none goes on before every rank has called this."""
    if not dist.is_initialized():
        return value
    largest = torch.tensor(value, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest.item())


def gathered(tensor: Tensor, device: torch.device) -> list[Tensor]:
    """Return every rank's tensor of one shape, on the CPU, in the order of the ranks."""
    if not dist.is_initialized():
        return [tensor.cpu()]
    own = tensor.to(device).contiguous()
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    return [part.cpu() for part in parts]


def fewest(value: float, device: torch.device) -> float:
    """Return the least of all ranks' values."""
    return min(float(one) for one in gathered(torch.tensor(value, dtype=torch.float64), device))


def own_of(parts: Sequence[Part]) -> Part | None:
    """Return this rank's part of what ranks left behind; None if there were not as many of them as there are now."""
    return parts[rank()] if len(parts) == ranks() else None
