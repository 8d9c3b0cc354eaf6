"""The U-Net half: encoder levels, decoder stages and saliency head, after Qiu et al. (Med Phys 2025).

Shapes: B batch, C channels, H x W pixels. All 3x3 convolutions pad by one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3x3 convolution with bias that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)


def conv_bn_relu(inputs: int, outputs: int) -> list[nn.Module]:
    """Return the layers conv3x3, batch norm, ReLU."""
    return [conv3x3(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class SqueezeExcite(nn.Module):
    """Scale channels by a gate computed from their means; without biases, unlike torchvision's."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction, bias=False)
        self.excite = nn.Linear(channels // reduction, channels, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mean_BC = x_BCHW.mean(dim=(2, 3))
        gate_BC = torch.sigmoid(self.excite(torch.relu(self.squeeze(mean_BC))))
        return x_BCHW * gate_BC[:, :, None, None]


class EncoderLevel(nn.Module):
    """One Res+SE block: two convolutions, a convolved shortcut without batch norm, ReLU, squeeze and excite."""

    def __init__(self, inputs: int, outputs: int, reduction: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *conv_bn_relu(inputs, outputs), conv3x3(outputs, outputs), nn.BatchNorm2d(outputs)
        )
        self.shortcut = conv3x3(inputs, outputs)
        self.gate = SqueezeExcite(outputs, reduction)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        gated: Tensor = self.gate(torch.relu(self.residual(x_BCHW) + self.shortcut(x_BCHW)))
        return gated


class UNetEncoder(nn.Module):
    """Levels at full to 1/16 resolution; returns every level's output, the skips and the bottleneck.

    Parameters
    ----------
    widths
        Channels of each level.
    reduction
        Factor by which squeeze and excite reduces the channels.
    """

    def __init__(self, widths: Sequence[int], reduction: int) -> None:
        super().__init__()
        inputs = [1, *widths[:-1]]
        self.levels = nn.ModuleList(EncoderLevel(i, o, reduction) for i, o in zip(inputs, widths, strict=True))
        self.pool = nn.MaxPool2d(2)

    def forward(self, image_B1HW: Tensor) -> list[Tensor]:
        outputs = [self.levels[0](image_B1HW)]
        for level in self.levels[1:]:
            outputs.append(level(self.pool(outputs[-1])))
        return outputs


class DecoderStage(nn.Module):
    """Upsample by two, convolve, join the skip as cat([skip, up]), and convolve twice."""

    def __init__(self, inputs: int, skip: int, up: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), *conv_bn_relu(inputs, up))
        self.merge = nn.Sequential(*conv_bn_relu(skip + up, outputs), *conv_bn_relu(outputs, outputs))

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        merged: Tensor = self.merge(torch.cat([skip_BCHW, self.up(x_BCHW)], dim=1))
        return merged


class UNetDecoder(nn.Module):
    """Five stages from 1/32 to full resolution.

    The first brings the deep features (`inputs` channels) up to the bottleneck; each following one goes up a level.
    """

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        ups = [*reversed(widths[:-1]), widths[0]]
        incoming = [inputs, *ups[:-1]]
        skips = list(reversed(widths))
        self.stages = nn.ModuleList(
            DecoderStage(i, skip, up, up) for i, skip, up in zip(incoming, skips, ups, strict=True)
        )

    def forward(self, deep_BCHW: Tensor, skips: Sequence[Tensor]) -> Tensor:
        x_BCHW = deep_BCHW
        for stage, skip_BCHW in zip(self.stages, reversed(skips), strict=True):
            x_BCHW = stage(x_BCHW, skip_BCHW)
        return x_BCHW


class SaliencyHead(nn.Module):
    """conv3x3, batch norm, ReLU, conv1x1 to one map, and log-softmax over all pixels in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*conv_bn_relu(channels, channels), nn.Conv2d(channels, 1, kernel_size=1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scores_B1HW = self.layers(x_BCHW).float()
        return torch.log_softmax(scores_B1HW.flatten(1), dim=1).view_as(scores_B1HW)
