"""The paper's comparisons that are U-Nets alone: MT-UNet (Zhu et al. 2022), UNet_S and Res_SE-UNet."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from cxrgaze_ray.models.fusion import FusionClassifier, fuse, means
from cxrgaze_ray.models.losses import JointLoss
from cxrgaze_ray.models.network import Network, NetworkOutput
from cxrgaze_ray.models.settings import MTUNetConfig, ResSEUNetConfig, UNetSConfig
from cxrgaze_ray.models.unet import ResidualLevel, UNet, double_conv, log_density


class MTUNet(Network):
    """Diagnosis and gaze from one plain U-Net, whose bottleneck takes the place of GazeNet's DenseNet."""

    def __init__(self, config: MTUNetConfig) -> None:
        super().__init__(config)
        self.unet = UNet(config, double_conv)
        self.classifier = FusionClassifier(config.widths[-1] + config.widths[0], config)
        self.joint_loss = JointLoss()

    def features(self, image_B1HW: Tensor, _gaze_BHW: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the bottleneck's means (B, C), and every level's output, the bottleneck last."""
        levels = self.unet.encoder(image_B1HW)
        return means(levels[-1]), *levels

    def decode(self, _image_B1HW: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        """Return the map's scores (B,1,H,W), and the means (B, C) of the last decoder output."""
        _, *levels = features
        decoded_BCHW, scores_B1HW = self.unet.decode(levels)
        return scores_B1HW, means(decoded_BCHW)

    def answers(self, *computed: Tensor) -> NetworkOutput:
        """Return log saliency and logits."""
        vector_BC, *_, scores_B1HW, means_BC = computed
        return NetworkOutput(log_density(scores_B1HW), self.classifier(fuse(vector_BC, means_BC)))

    def parts(self) -> dict[str, list[nn.Module]]:
        """Return the modules by the names that training phases use."""
        return {"saliency_path": [self.unet], "classifier": [self.classifier], "joint_loss": [self.joint_loss]}


class SaliencyUNet(Network):
    """Gaze alone."""

    unet: UNet

    def decode(self, image_B1HW: Tensor, *_features: Tensor) -> tuple[Tensor, ...]:
        """Return the map's scores (B,1,H,W)."""
        return (self.unet(image_B1HW),)

    def answers(self, *computed: Tensor) -> NetworkOutput:
        """Return log saliency."""
        return NetworkOutput(log_density(*computed))

    def saliency(self, image_B1HW: Tensor) -> Tensor:
        """Return the log saliency (B,1,H,W); ValueError if the size is not a multiple of 16."""
        self.check_size(image_B1HW)
        return log_density(*self.decode(image_B1HW))

    def parts(self) -> dict[str, list[nn.Module]]:
        """Return the modules by the names that training phases use."""
        return {"saliency_path": [self.unet]}


class UNetS(SaliencyUNet):
    """MT-UNet's U-Net, as published without batch norm in the double convolutions."""

    def __init__(self, config: UNetSConfig) -> None:
        super().__init__(config)
        self.unet = UNet(config, partial(double_conv, norm=config.batch_norm), norm=config.batch_norm)


class ResSEUNet(SaliencyUNet):
    """GazeNet's encoder levels under a U-Net's own bottleneck."""

    def __init__(self, config: ResSEUNetConfig) -> None:
        super().__init__(config)
        self.unet = UNet(config, partial(ResidualLevel, settings=config))
