"""GazeGNN (Wang et al. 2023): diagnosis from a radiograph and the reader's gaze, by a pyramid Vision GNN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cxrgaze_ray.models.network import Network, NetworkOutput
from cxrgaze_ray.models.settings import GazeGNNConfig
from cxrgaze_ray.models.vision_gnn import conv_norm, graph_block
from cxrgaze_ray.schemas import CLASSES

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CELL = 4
"""Pixels each way of a node of the first stage."""

_POOLS = (4, 2, 1, 1)
"""Factor by which the keys of each stage's graphs are pooled."""

_PER_DILATION = 4
"""Blocks after which the dilation grows by one."""


class GazeGNN(Network):
    """The gaze is added to the image's features where the reader looked; the network predicts none.

    The input has the size of the settings, for which its graphs are laid out.
    """

    config: GazeGNNConfig
    mean_3: Tensor
    std_3: Tensor

    def __init__(self, config: GazeGNNConfig) -> None:
        super().__init__(config)
        width = config.channels[0]
        height_width = [length // _CELL for length in config.input_size]
        self.stem = nn.Sequential(
            *conv_norm(3, width // 2, 3, stride=2), nn.GELU(),
            *conv_norm(width // 2, width, 3, stride=2), nn.GELU(),
            *conv_norm(width, width, 3),
        )  # fmt: skip
        self.position_CHW = nn.Parameter(torch.zeros(width, *height_width))
        self.gaze_norm = nn.BatchNorm2d(1)
        self.stages = nn.Sequential(*_stages(config))
        self.head = nn.Sequential(
            nn.Conv2d(config.channels[-1], config.head_hidden, 1), _VectorNorm(config.head_hidden), nn.GELU(),
            nn.Conv2d(config.head_hidden, len(CLASSES), 1),
        )  # fmt: skip
        self.register_buffer("mean_3", torch.tensor(_MEAN), persistent=False)
        self.register_buffer("std_3", torch.tensor(_STD), persistent=False)

    def features(self, image_B1HW: Tensor, gaze_BHW: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the logits (B,3); ValueError if the gaze has not the image's size."""
        image_B3HW = (image_B1HW - self.mean_3[:, None, None]) / self.std_3[:, None, None]
        x_BCHW = self.stem(image_B3HW) + self.position_CHW + self.gaze_norm(_gaze_grid(image_B1HW, gaze_BHW))
        vector_BC11 = self.stages(x_BCHW).mean(dim=(2, 3), keepdim=True)
        logits_BK: Tensor = self.head(vector_BC11).flatten(1)
        return (logits_BK.float(),)

    def answers(self, *computed: Tensor) -> NetworkOutput:
        """Return the logits."""
        return NetworkOutput(None, *computed)

    def parts(self) -> dict[str, list[nn.Module]]:
        """Return no parts: its one phase trains the whole network."""
        return {}

    def check_size(self, image_B1HW: Tensor) -> None:
        """Raise ValueError if the size is not that of the settings."""
        super().check_size(image_B1HW)
        height, width = image_B1HW.shape[-2:]
        if (height, width) != tuple(self.config.input_size):
            raise ValueError(f"{height}x{width} is not {self.config.input_size[0]}x{self.config.input_size[1]}")


class _VectorNorm(nn.BatchNorm2d):
    """Batch norm of one vector an image."""

    def forward(self, x_BC11: Tensor) -> Tensor:
        """Normalise by the batch; one image alone has no spread, and is normalised by the running statistics."""
        if len(x_BC11) > 1 or not self.training:
            return super().forward(x_BC11)
        return functional.batch_norm(x_BC11, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def _stages(config: GazeGNNConfig) -> list[nn.Module]:
    """Return the stages' blocks, with a convolution of stride 2 before each stage but the first."""
    height, width = (length // _CELL for length in config.input_size)
    # in the last and coarsest stage no node has neighbours farther than there are nodes
    farthest = height * width // 8**2 // config.neighbours
    layers: list[nn.Module] = []
    for stage, (channels, blocks) in enumerate(zip(config.channels, config.blocks, strict=True)):
        if stage:
            layers.append(nn.Sequential(*conv_norm(config.channels[stage - 1], channels, 3, stride=2)))
        grid = (height >> stage, width >> stage)
        for index in range(sum(config.blocks[:stage]), sum(config.blocks[:stage]) + blocks):
            dilation = min(index // _PER_DILATION + 1, farthest)
            layers.append(graph_block(channels, grid, _POOLS[stage], config.neighbours, dilation))
    return layers


def _gaze_grid(image_B1HW: Tensor, gaze_BHW: Tensor | None) -> Tensor:
    """Return the density of gaze in each cell of the first stage, 1 where it is spread evenly.

    As shares of 1 its values would be so small that batch norm, which adds 1e-5 to a variance, all but wiped them out.
    """
    if gaze_BHW is None:
        raise ValueError("the gaze is missing")
    if gaze_BHW.shape != image_B1HW[:, 0].shape:
        raise ValueError(f"gaze {tuple(gaze_BHW.shape)} is not of the images' {tuple(image_B1HW[:, 0].shape)}")
    pixels = gaze_BHW.shape[1] * gaze_BHW.shape[2]
    return functional.avg_pool2d(gaze_BHW[:, None].float() * pixels, _CELL)
