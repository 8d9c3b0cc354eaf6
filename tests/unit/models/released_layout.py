"""A network written from the paper alone, with the module names of the released checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import DenseNet

from cxrgaze_ray.models.settings import GazeNetConfig


class Residual(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o)
        self.conv_shortcut = nn.Conv2d(i, o, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.conv_shortcut(x))


class Gate(nn.Module):
    def __init__(self, o: int, reduction: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(o, o // reduction, bias=False), nn.ReLU(), nn.Linear(o // reduction, o, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.fc(x.mean(dim=(2, 3)))
        return x * scale[:, :, None, None]


class SaliencyOut(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv2d, self.BatchNorm2d = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv_last = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.conv_last(torch.relu(self.BatchNorm2d(self.conv2d(x))))
        return torch.log_softmax(scores.flatten(1), dim=1).view_as(scores)


class ClassesOut(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(inputs, hidden), nn.Linear(hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear_2(torch.relu(self.linear_1(x)))
        return logits


def twice(i: int, o: int) -> nn.Sequential:
    first, second = nn.Conv2d(i, o, 3, padding=1), nn.Conv2d(o, o, 3, padding=1)
    return nn.Sequential(first, nn.BatchNorm2d(o), nn.ReLU(), second, nn.BatchNorm2d(o), nn.ReLU())


class Released(nn.Module):
    """The released network, in eval mode; with what it holds and does not use."""

    def __init__(self, config: GazeNetConfig) -> None:
        super().__init__()
        widths, incoming = config.widths, (1, *config.widths)
        self.model = DenseNet(config.growth_rate, config.block_config, config.init_features, num_classes=3)
        deep = self.model.classifier.in_features
        below = deep
        for i in range(5, 0, -1):
            self.add_module(
                f"Conv{i}",
                nn.Sequential(Residual(incoming[i - 1], widths[i - 1]), Gate(widths[i - 1], config.se_reduction)),
            )
            up = widths[max(i - 2, 0)]
            self.add_module(
                f"Up{i}",
                nn.Sequential(
                    nn.Upsample(scale_factor=2), nn.Conv2d(below, up, 3, padding=1), nn.BatchNorm2d(up), nn.ReLU()
                ),
            )
            self.add_module(f"Up_conv{i}", twice(widths[i - 1] + up, up))
            below = up
        self.out_conv_image = SaliencyOut(below)
        self.out_classification = ClassesOut(deep + below, config.fusion_hidden)
        self.conv = nn.Conv2d(1, 3, 1)
        self.dummy_tensor, self.lg_sigma_class = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        skips, x = [], image
        for i in range(1, 6):
            x = self.get_submodule(f"Conv{i}")(x if i == 1 else torch.max_pool2d(x, 2))
            skips.append(x)
        x = image.expand(-1, 3, -1, -1)
        for name, layer in self.model.features.named_children():
            if name != "norm5":
                x = layer(x)
        vector = torch.relu(self.model.features.norm5(x)).mean(dim=(2, 3))
        for i in range(5, 0, -1):
            x = self.get_submodule(f"Up_conv{i}")(torch.cat([skips[i - 1], self.get_submodule(f"Up{i}")(x)], dim=1))
        return self.out_conv_image(x), self.out_classification(torch.cat([vector, x.mean(dim=(2, 3))], dim=1))


def shaken(config: GazeNetConfig, seed: int = 3) -> Released:
    """Return a network in which no two tensors are alike, buffers included."""
    torch.manual_seed(seed)
    network = Released(config)
    for number, (name, tensor) in enumerate(network.state_dict().items()):
        if name.endswith("running_mean"):
            tensor.normal_(std=0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(number)
        elif tensor.ndim == 1:
            tensor.add_(torch.randn_like(tensor) * 0.1)
    return network
