"""Whether weights are numbers at all: NaN and infinity spread, and no later step brings them back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinity, in order."""
    floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point() and tensor.numel()}
    if not floats:
        return []
    # one answer for all: on an accelerator each question of its own would wait for the device
    sound = torch.stack([tensor.detach().isfinite().all() for tensor in floats.values()]).tolist()
    return sorted(name for name, fine in zip(floats, sound, strict=True) if not fine)
