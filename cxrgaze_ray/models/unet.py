"""One configurable U-Net: encoder levels, decoder stages and saliency head, after Qiu et al. (Med Phys 2025).

GazeNet, MT-UNet, UNet_S and Res_SE-UNet are built of it.
Shapes: B batch, C channels, H x W pixels. All 3x3 convolutions pad by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from cxrgaze_ray.models.families import ResidualSettings, UNetSettings


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3x3 convolution with bias that keeps the size."""
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)


def conv_relu(inputs: int, outputs: int, *, norm: bool = True) -> list[nn.Module]:
    """Return the layers conv3x3, batch norm unless left out, ReLU."""
    norms = [nn.BatchNorm2d(outputs)] if norm else []
    return [conv3x3(inputs, outputs), *norms, nn.ReLU(inplace=True)]


def double_conv(inputs: int, outputs: int, *, norm: bool = True) -> nn.Sequential:
    """Return a U-Net's plain block: twice conv3x3, batch norm unless left out, ReLU."""
    return nn.Sequential(*conv_relu(inputs, outputs, norm=norm), *conv_relu(outputs, outputs, norm=norm))


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


class ZeroPadded(nn.Module):
    """The identity, with zeros for the channels that come new; without parameters."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.new = outputs - inputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return functional.pad(x_BCHW, (0, 0, 0, 0, 0, self.new))


class ResidualLevel(nn.Module):
    """One Res+SE block: two convolutions, a shortcut without batch norm, ReLU, squeeze and excite."""

    def __init__(self, inputs: int, outputs: int, settings: ResidualSettings) -> None:
        super().__init__()
        self.residual = nn.Sequential(*conv_relu(inputs, outputs), conv3x3(outputs, outputs), nn.BatchNorm2d(outputs))
        self.shortcut = (conv3x3 if settings.shortcut == "conv3x3" else ZeroPadded)(inputs, outputs)
        self.gate = SqueezeExcite(outputs, settings.se_reduction)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        gated: Tensor = self.gate(torch.relu(self.residual(x_BCHW) + self.shortcut(x_BCHW)))
        return gated


class UNetEncoder(nn.Module):
    """Levels at full to 1/16 resolution; returns every level's output, the skips and the bottleneck.

    Parameters
    ----------
    widths
        Channels of each level.
    level
        Makes a level from its channels in and out.
    """

    def __init__(self, widths: Sequence[int], level: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(level(inputs, outputs) for inputs, outputs in pairwise([1, *widths]))
        self.pool = nn.MaxPool2d(2)

    def forward(self, image_B1HW: Tensor) -> list[Tensor]:
        outputs = [self.levels[0](image_B1HW)]
        for level in self.levels[1:]:
            outputs.append(level(self.pool(outputs[-1])))
        return outputs


class DecoderStage(nn.Module):
    """Upsample by two, convolve, join the skip as cat([skip, up]), and convolve twice."""

    def __init__(self, inputs: int, skip: int, up: int, *, norm: bool = True) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), *conv_relu(inputs, up))
        self.merge = double_conv(skip + up, up, norm=norm)

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        merged: Tensor = self.merge(torch.cat([skip_BCHW, self.up(x_BCHW)], dim=1))
        return merged


class UNetDecoder(nn.Module):
    """Stages that each double the resolution, up to the full one.

    Parameters
    ----------
    inputs
        Channels of the features that the first stage starts from.
    stages
        Channels of each stage's skip, and of what it gives.
    norm
        Whether the convolutions after each skip have batch norm; those on the way up always have.
    """

    def __init__(self, inputs: int, stages: Iterable[tuple[int, int]], *, norm: bool = True) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for skip, up in stages:
            self.stages.append(DecoderStage(inputs, skip, up, norm=norm))
            inputs = up

    def forward(self, deep_BCHW: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return the last stage's output; the skips come in the encoder's order."""
        x_BCHW = deep_BCHW
        for stage, skip_BCHW in zip(self.stages, reversed(skips), strict=True):
            x_BCHW = stage(x_BCHW, skip_BCHW)
        return x_BCHW


def log_density(scores_B1HW: Tensor) -> Tensor:
    """Return the log-softmax over an image's pixels (B,1,H,W), in float32."""
    return torch.log_softmax(scores_B1HW.float().flatten(1), dim=1).view_as(scores_B1HW)


class SaliencyHead(nn.Module):
    """To one map's scores by a 1x1 convolution, after conv3x3, batch norm, ReLU unless left out: see `log_density`."""

    def __init__(self, settings: UNetSettings) -> None:
        super().__init__()
        channels = settings.widths[0]
        before = conv_relu(channels, channels) if settings.head == "conv3x3" else []
        self.layers = nn.Sequential(*before, nn.Conv2d(channels, 1, kernel_size=1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scores_B1HW: Tensor = self.layers(x_BCHW)
        return scores_B1HW


class UNet(nn.Module):
    """The whole of it with four pools: the stages go up from the bottleneck, the encoder's last level."""

    def __init__(self, settings: UNetSettings, level: Callable[[int, int], nn.Module], *, norm: bool = True) -> None:
        super().__init__()
        *skips, bottleneck = settings.widths
        self.encoder = UNetEncoder(settings.widths, level)
        self.decoder = UNetDecoder(bottleneck, [(width, width) for width in reversed(skips)], norm=norm)
        self.saliency_head = SaliencyHead(settings)

    def forward(self, image_B1HW: Tensor) -> Tensor:
        """Return the map's scores (B,1,H,W)."""
        return self.decode(self.encoder(image_B1HW))[1]

    def decode(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the last decoder output (B, C, H, W) and the map's scores (B,1,H,W) of the encoder's outputs."""
        *skips, bottleneck_BCHW = levels
        decoded_BCHW = self.decoder(bottleneck_BCHW, skips)
        return decoded_BCHW, self.saliency_head(decoded_BCHW)
