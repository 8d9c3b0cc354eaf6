"""DenseNet as feature extractor, and its published first weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torchvision.models import DenseNet, DenseNet201_Weights

from cxrgaze_ray.models.pretrained import BackboneReport, Published, load_first_weights

CONTRASTIVE_PARTS = (
    "conv0", "norm0", "denseblock1", "transition1", "denseblock2", "transition2", "denseblock3", "transition3",
    "denseblock4",
)  # fmt: skip
"""Parts of `features` that the contrastive phase trains: all but norm5."""


_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def pooled(densenet: DenseNet, raw_BCHW: Tensor) -> Tensor:
    """Return the ordinary pooled DenseNet vector (B, C) of raw denseblock4 features: GAP(ReLU(norm5))."""
    return torch.relu(densenet.features.norm5(raw_BCHW)).float().mean(dim=(2, 3))


def load_backbone(densenet: DenseNet, weights_file: str | None = None, *, fits: bool = True) -> BackboneReport:
    """Load DenseNet's first weights, from a file if one is given: see `pretrained.load_first_weights`."""
    return load_first_weights(densenet, _IMAGENET, weights_file, fits=fits)


def _download() -> Mapping[str, Tensor]:
    state: Mapping[str, Tensor] = DenseNet201_Weights.IMAGENET1K_V1.get_state_dict(
        progress=False, check_hash=True, weights_only=True
    )
    return state


def _modern(name: str) -> str:
    """Return the name that a tensor has in today's torchvision: the published files still say ``norm.1``."""
    return _OLD_NAME.sub(r"\1\2.", name)


_IMAGENET = Published("DenseNet-201", "torchvision", "classifier", _download, _modern)
