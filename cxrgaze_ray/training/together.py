"""Layers that look at a whole batch, of which each rank holds a part: the step is that of one process.

torch.nn.SyncBatchNorm refuses the CPU, and knows no row that only fills a place, so the same is done here by two
collective operations, for gloo and nccl alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cxrgaze_ray.training.ranks import World, add_up, stacked


@dataclass
class Dealt:
    """The batch that a step is computed from, as its layers need to know it; set before each of them.

    Attributes
    ----------
    rows
        Rows of the batch, over all ranks.
    counts
        Whether this rank's rows count; false where it computes with one that only fills its place.
    """

    rows: int = 0
    counts: bool = True


def work_together(network: nn.Module, world: World, *, norms: bool) -> Dealt:
    """Make a network's dropout, and if asked for its batch norms, those of the whole batch; weights stay as they are.

    Nothing is changed where there is one worker.

    Parameters
    ----------
    world
        This worker's rank, and the number of workers.
    norms
        Take the means and spreads of batch norms in training over all ranks.

    Returns
    -------
    Dealt
        What is to be set before every step.
    """
    dealt = Dealt()
    for module in network.modules() if world.size > 1 else ():
        if isinstance(module, nn.Dropout):
            vars(module)["forward"] = _Dropout(module, dealt, world)
        elif norms and isinstance(module, nn.BatchNorm2d):
            vars(module)["forward"] = _BatchNorm(module, dealt)
    return dealt


class _Dropout:
    """Draws what one process would draw for the whole batch, and keeps what is of this rank's rows."""

    def __init__(self, module: nn.Dropout, dealt: Dealt, world: World) -> None:
        self._module, self._dealt, self._world = module, dealt, world

    def __call__(self, x: Tensor) -> Tensor:
        if not self._module.training:
            return x
        whole = functional.dropout(x.new_ones(self._dealt.rows, *x.shape[1:]), self._module.p)
        own = whole[self._world.rank :: self._world.size] if self._dealt.counts else whole[:1]
        return x * own


class _BatchNorm:
    """Normalises by the rows of all ranks in training; keeps what its module does beside, such as an activation."""

    def __init__(self, module: nn.BatchNorm2d, dealt: Dealt) -> None:
        self._module, self._dealt = module, dealt

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        module = self._module
        values = self._dealt.rows * x_BCHW[0, 0].numel()
        if not module.training or values == 1:  # one value alone has no spread: the module has its own way with it
            return type(module).forward(module, x_BCHW)
        together_BCHW: Tensor = self._together(x_BCHW, values)
        return together_BCHW

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _together(self, x_BCHW: Tensor, values: int) -> Tensor:
        module = self._module
        normal_BCHW, mean_C, variance_C = _Normalised.apply(x_BCHW, self._dealt.counts, values, module.eps)
        with torch.no_grad():
            self._note(mean_C, variance_C * values / (values - 1))
        scaled_BCHW: Tensor = normal_BCHW * module.weight[:, None, None] + module.bias[:, None, None]
        # timm's batch norm drops and activates as well
        for name in ("drop", "act"):
            scaled_BCHW = getattr(module, name, nn.Identity())(scaled_BCHW)
        return scaled_BCHW.to(x_BCHW.dtype)

    def _note(self, mean_C: Tensor, variance_C: Tensor) -> None:
        """Move the running statistics, as torch does."""
        module, momentum = self._module, self._module.momentum
        if module.running_mean is None or module.running_var is None or momentum is None:
            raise NotImplementedError("a batch norm without running statistics, or with their plain mean")
        module.running_mean.lerp_(mean_C.to(module.running_mean), momentum)
        module.running_var.lerp_(variance_C.to(module.running_var), momentum)
        if module.num_batches_tracked is not None:
            module.num_batches_tracked.add_(1)


class _Normalised(torch.autograd.Function):
    """Maps a rank's rows (B,C,H,W) to mean 0 and spread 1 over all ranks; returns means and variances too."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, counts: bool, values: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        whole_BCHW, axes = x_BCHW.float(), (0, 2, 3)
        count = x_BCHW.numel() // x_BCHW.shape[1] if counts else 0
        own_C = whole_BCHW.mean(axes)
        square_C = (whole_BCHW - own_C[:, None, None]).square().sum(axes) * bool(count)
        told = torch.cat([own_C, square_C, own_C.new_tensor([count])]).double()
        told_RX = stacked(told)
        means_RC, squares_RC = told_RX[:, :-1].chunk(2, dim=1)
        counts_R1 = told_RX[:, -1:]
        # of means and spreads about them, not of squares, whose difference has no digits left (Chan et al. 1979)
        mean_C = (means_RC * counts_R1).sum(0) / values
        variance_C = (squares_RC.sum(0) + ((means_RC - mean_C).square() * counts_R1).sum(0)) / values
        scale_C = (variance_C + eps).rsqrt().float()
        normal_BCHW = (whole_BCHW - mean_C.float()[:, None, None]) * scale_C[:, None, None]
        ctx.save_for_backward(normal_BCHW, scale_C)
        ctx.counts, ctx.values, ctx.dtype = counts, values, x_BCHW.dtype
        ctx.mark_non_differentiable(mean_C, variance_C)
        return normal_BCHW, mean_C, variance_C

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        normal_BCHW, scale_C = ctx.saved_tensors
        gradient_BCHW = gradients[0].float()
        sums_2C = torch.stack([gradient_BCHW.sum((0, 2, 3)), (gradient_BCHW * normal_BCHW).sum((0, 2, 3))])
        add_up(sums_2C)
        if ctx.counts:  # a row that only fills a place moves no mean
            mean_C, slope_C = (sums_2C / ctx.values)[..., None, None]
            gradient_BCHW = gradient_BCHW - mean_C - normal_BCHW * slope_C
        return (gradient_BCHW * scale_C[:, None, None]).to(ctx.dtype), None, None, None
