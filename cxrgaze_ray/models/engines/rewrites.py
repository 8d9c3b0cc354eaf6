"""Exact rewrites of a network for inference: fewer passes over memory, the same answers but for float32's rounding."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.densenet import _DenseLayer

from cxrgaze_ray.models.network import DenseNetNetwork, Network
from cxrgaze_ray.models.unet import ResidualLevel, conv3x3

N = TypeVar("N", bound=Network)


def rewritten(network: N) -> N:
    """Return a copy of a network, in eval mode, that gives the same answers with fewer layers.

    Batch norm that follows a convolution becomes part of it. A residual level's first convolution and its shortcut,
    which read the same input, become one. DenseNet's first convolution, which sees one image three times, sees it once.
    """
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            _fold(module, [name for name, _ in module.named_children()])
        elif isinstance(module, _DenseLayer):
            _fold(module, ["conv1", "norm2"])  # norm1 comes before a ReLU, which no convolution could take in
    for name, module in list(network.named_modules()):
        if isinstance(module, ResidualLevel) and isinstance(module.shortcut, nn.Conv2d):
            network.set_submodule(name, _MergedLevel(module))
    if isinstance(network, DenseNetNetwork):
        _see_once(network.densenet.features)
    return network


class _MergedLevel(nn.Module):
    """A residual level, its batch norms folded, with first convolution and shortcut as one."""

    def __init__(self, level: ResidualLevel) -> None:
        super().__init__()
        first, shortcut = level.residual[0], level.shortcut
        assert isinstance(first, nn.Conv2d)
        assert isinstance(shortcut, nn.Conv2d)
        self.first = conv3x3(first.in_channels, first.out_channels + shortcut.out_channels)
        with torch.no_grad():
            for name in ("weight", "bias"):
                getattr(self.first, name).copy_(torch.cat([getattr(first, name), getattr(shortcut, name)]))
        self.rest, self.gate = level.residual[1:], level.gate

    def forward(self, x_BCHW: Tensor) -> Tensor:
        first_BCHW, shortcut_BCHW = self.first(x_BCHW).chunk(2, dim=1)
        gated: Tensor = self.gate(torch.relu(self.rest(first_BCHW) + shortcut_BCHW))
        return gated


def _fold(parent: nn.Module, names: list[str]) -> None:
    """Fold each batch norm into the convolution before it, both children that run one after the other."""
    for before, name in pairwise(names):
        convolution, norm = parent.get_submodule(before), parent.get_submodule(name)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            parent.set_submodule(before, fuse_conv_bn_eval(convolution, norm))
            parent.set_submodule(name, nn.Identity())


def _see_once(features: nn.Sequential) -> None:
    first = features.get_submodule("conv0")
    assert isinstance(first, nn.Conv2d)
    with torch.no_grad():
        first.weight = nn.Parameter(first.weight.sum(dim=1, keepdim=True), requires_grad=False)
    first.in_channels = 1
