"""Weights as a state dict: whether they fit a module, and whether they are finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from cxrgaze_ray.errors import UserError


def load_strictly(
    module: nn.Module,
    state: Mapping[str, Tensor],
    misfit: Callable[[str], UserError],
    infinite: Callable[[str], UserError] | None = None,
) -> None:
    """Load every tensor of a state, or none of them: a silent partial load is the classic bug here.

    `misfit` makes the error if tensors are missing, left over or of another shape, from "3 tensors differ, first NAME";
    `infinite`, where it is given, if they hold NaN or infinity, from "3 tensors, first NAME".
    """
    wanted = module.state_dict()
    wrong = sorted(wanted.keys() ^ state.keys()) or [n for n in wanted if wanted[n].shape != state[n].shape]
    if wrong:
        raise misfit(f"{len(wrong)} tensors differ, first {wrong[0]}")
    if infinite is not None and (wrong := not_finite(state)):
        raise infinite(f"{len(wrong)} tensors, first {wrong[0]}")
    module.load_state_dict(state, strict=True)


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinity, in order; no later step repairs them."""
    floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point() and tensor.numel()}
    if not floats:
        return []
    # one query for all: on an accelerator each separate query would wait for the device
    sound = torch.stack([tensor.detach().isfinite().all() for tensor in floats.values()]).tolist()
    return sorted(name for name, fine in zip(floats, sound, strict=True) if not fine)
