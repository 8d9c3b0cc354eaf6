"""Vision GNN blocks (Han et al. 2022): pixels as nodes of a graph, each joined to those most like it.

Shapes: B batch, C channels, H x W grid, N nodes, M keys, J neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_WAVELENGTH = 10_000.0
_GROUPS = 4
_WIDER = 4


def conv_norm(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> list[nn.Module]:
    """Return the layers convolution, batch norm."""
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2), nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    """Layers whose output is added to their input."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        added: Tensor = self.layers(x_BCHW)
        return x_BCHW + added


class MaxRelativeConv(nn.Module):
    """Join every node with its nearest keys, and mix its features with the largest differences to them.

    Nearness is that of normalised features and of places. With a `dilation` d, every d-th of the nearest is taken.

    Parameters
    ----------
    channels
        Channels in; twice as many come out.
    grid
        Height and width.
    pool
        Factor by which the keys are pooled each way.
    neighbours, dilation
        Which keys are taken.
    """

    nearness_NM: Tensor
    """Of the nodes' places to the keys': fixed, and kept with the weights."""

    def __init__(self, channels: int, grid: tuple[int, int], pool: int, neighbours: int, dilation: int) -> None:
        super().__init__()
        self.pool, self.neighbours, self.dilation = pool, neighbours, dilation
        self.mix = nn.Sequential(
            nn.Conv2d(2 * channels, 2 * channels, 1, groups=_GROUPS), nn.BatchNorm2d(2 * channels), nn.GELU()
        )
        self.register_buffer("nearness_NM", _nearness(channels, grid, pool))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        keys_BCM = functional.avg_pool2d(x_BCHW, self.pool).flatten(2)
        nodes_BCN = x_BCHW.flatten(2)
        chosen_BNJ = self._nearest(nodes_BCN, keys_BCM)
        index_BCNJ = chosen_BNJ[:, None].expand(-1, x_BCHW.shape[1], -1, -1)
        near_BCNJ = keys_BCM.gather(2, index_BCNJ.flatten(2)).view(index_BCNJ.shape)
        relative_BCN = near_BCNJ.amax(dim=3) - nodes_BCN
        # a node's feature beside its difference: the groups of the convolution see both
        joined_BCN = torch.stack([nodes_BCN, relative_BCN], dim=2).flatten(1, 2)
        mixed: Tensor = self.mix(joined_BCN.view(len(x_BCHW), -1, *x_BCHW.shape[2:]))
        return mixed

    @torch.no_grad()
    def _nearest(self, nodes_BCN: Tensor, keys_BCM: Tensor) -> Tensor:
        # float32 whatever the features' precision: which keys are nearest is no place for rounding
        with torch.autocast(nodes_BCN.device.type, enabled=False):
            unit_BCN, key_BCM = (functional.normalize(x.float(), dim=1) for x in (nodes_BCN, keys_BCM))
            nearness_BNM = 2 * unit_BCN.transpose(1, 2) @ key_BCM + self.nearness_NM
            ranked_BNJ = nearness_BNM.topk(self.neighbours * self.dilation).indices
        return ranked_BNJ[:, :, :: self.dilation]


def graph_block(channels: int, grid: tuple[int, int], pool: int, neighbours: int, dilation: int) -> nn.Sequential:
    """Return a block: a graph convolution between 1x1 convolutions, then a feed-forward layer, both residual."""
    graph = MaxRelativeConv(channels, grid, pool, neighbours, dilation)
    return nn.Sequential(
        Residual(*conv_norm(channels, channels), graph, *conv_norm(2 * channels, channels)),
        Residual(*conv_norm(channels, _WIDER * channels), nn.GELU(), *conv_norm(_WIDER * channels, channels)),
    )


def _nearness(channels: int, grid: tuple[int, int], pool: int) -> Tensor:
    """Return how near nodes and pooled keys lie, 1 for the same place: products of sinusoids of their places."""
    place_CHW = torch.cat(
        [
            _sinusoids(channels // 2, grid[1])[:, None, :].expand(-1, *grid),
            _sinusoids(channels // 2, grid[0])[:, :, None].expand(-1, *grid),
        ]
    )
    key_CM = functional.avg_pool2d(place_CHW, pool).flatten(1)
    return (2 / channels * place_CHW.flatten(1).T @ key_CM).float()


def _sinusoids(channels: int, length: int) -> Tensor:
    """Return sines and cosines (channels, length) of a place along one axis."""
    rate_C = _WAVELENGTH ** (-2 / channels * torch.arange(channels // 2, dtype=torch.float64))
    angle_CL = rate_C[:, None] * torch.arange(length, dtype=torch.float64)
    return torch.cat([angle_CL.sin(), angle_CL.cos()])
