"""What every network has in common: one call for its answers, and named parts that training phases learn or freeze."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import DenseNet

from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.models.densenet import CONTRASTIVE_PARTS, load_backbone, pooled
from cxrgaze_ray.models.pretrained import BackboneReport
from cxrgaze_ray.models.settings import DenseNetSettings, NetworkConfig
from cxrgaze_ray.schemas import CLASSES


class NetworkOutput(NamedTuple):
    """Float32 answers, None for what the network does not predict.

    log saliency (B,1,H,W), its exp summing to 1 over pixels, and logits (B,3).
    """

    log_saliency_B1HW: Tensor | None = None
    logits_BK: Tensor | None = None


class Network(nn.Module, ABC):
    """A network of the zoo. Input: (B,1,H,W) float in [0,1], H and W multiples of `config.stride`.

    It is computed in three steps, which an engine may each compute in its own way: `features`, which need float32,
    `decode`, which bears half precision, and `answers`, a small step in float32 again.

    Attributes
    ----------
    config
        Settings that build it.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, image_B1HW: Tensor, gaze_BHW: Tensor | None = None, /) -> NetworkOutput:
        """Return the answers; ValueError if the size does not fit.

        Parameters
        ----------
        image_B1HW
            float32 in [0,1].
        gaze_BHW
            Density of the reader's gaze at the input's size, summing to 1, for a network that `needs_gaze`.
        """
        self.check_size(image_B1HW)
        features = self.features(image_B1HW, gaze_BHW)
        return self.answers(*features, *self.decode(image_B1HW, *features))

    def features(self, _image_B1HW: Tensor, _gaze_BHW: Tensor | None = None, /) -> tuple[Tensor, ...]:
        """Return what has to be computed in float32: a classifier's rounded weights move every image's logits alike."""
        return ()

    def decode(self, _image_B1HW: Tensor, /, *_features: Tensor) -> tuple[Tensor, ...]:
        """Return what may be computed in half precision, from the image and its features: the U-Net's part."""
        return ()

    @abstractmethod
    def answers(self, *computed: Tensor) -> NetworkOutput:
        """Return the answers of the features and of what was decoded, in float32."""

    @abstractmethod
    def parts(self) -> dict[str, list[nn.Module]]:
        """Return the modules by the names that training phases use."""

    def load_pretrained(self, weights_file: str | None = None) -> BackboneReport:
        """Load published first weights, from a file if one is given; ``fresh`` where the network starts without any.

        Raises
        ------
        ConfigError
            If a file is given and the network has no part that it could be for.
        """
        if weights_file is not None:
            raise ConfigError(
                f"A {self.config.system} has no backbone to load weights into.", "Leave out --backbone-weights."
            )
        return BackboneReport("fresh")

    def check_size(self, image_B1HW: Tensor) -> None:
        """Raise ValueError if height or width is not a multiple of the stride."""
        height, width = image_B1HW.shape[-2:]
        stride = self.config.stride
        if height % stride or width % stride:
            raise ValueError(f"{height}x{width} is not a multiple of {stride} each way")


class DenseNetNetwork(Network):
    """A network with a DenseNet of its own, whose linear head is trained in phase encoder."""

    densenet: DenseNet

    def densenet_features(self, image_B1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the raw denseblock4 output (B, C, H/32, W/32), before norm5, and transition3's (B, C, H/32, W/32)."""
        x_BCHW = image_B1HW.expand(-1, self.densenet.features.conv0.in_channels, -1, -1)
        transition3_BCHW = x_BCHW
        for name, layer in self.densenet.features.named_children():
            if name == "norm5":
                break
            x_BCHW = layer(x_BCHW)
            if name == "transition3":
                transition3_BCHW = x_BCHW
        return x_BCHW, transition3_BCHW

    def tap(self, image_B1HW: Tensor) -> Tensor:
        """Return the raw denseblock4 output (B, C, H/32, W/32), which the contrastive phase learns from."""
        return self.densenet_features(image_B1HW)[0]

    def densenet_logits(self, image_B1HW: Tensor) -> Tensor:
        """Return the logits (B,3) of DenseNet's own head."""
        vector_BC = pooled(self.densenet, self.tap(image_B1HW))
        with torch.autocast(vector_BC.device.type, enabled=False):  # for the same reason as in `fusion`
            logits_BK: Tensor = self.densenet.classifier(vector_BC)
        return logits_BK

    def parts(self) -> dict[str, list[nn.Module]]:
        """Return the modules of the contrastive phase and of the encoder phase."""
        features = self.densenet.features
        return {
            "densenet_contrastive": [features.get_submodule(name) for name in CONTRASTIVE_PARTS],
            "densenet": [self.densenet],
        }

    def load_pretrained(self, weights_file: str | None = None) -> BackboneReport:
        """Load DenseNet's first weights: see `densenet.load_backbone`."""
        return load_backbone(self.densenet, weights_file, fits=self.config.fits_imagenet)


def make_densenet(config: DenseNetSettings) -> DenseNet:
    """Build torchvision's DenseNet with a head for the classes, and fresh weights."""
    return DenseNet(
        growth_rate=config.growth_rate,
        block_config=config.block_config,
        num_init_features=config.init_features,
        num_classes=len(CLASSES),
    )
