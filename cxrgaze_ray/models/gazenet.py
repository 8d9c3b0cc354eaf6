"""GazeNet: diagnosis and gaze from one radiograph (Qiu, Rivaz, Xiao; Med Phys 2025, doi 10.1002/mp.17977).

image ─┬─ U-Net encoder ──── skips ───┐
       └─ DenseNet ─┬─ raw features ─ decoder ─┬─ saliency head ── log saliency
                    └─ pooled ─────────────────┴─ pooled ── fusion classifier ── logits
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from cxrgaze_ray.models.densenet import pooled
from cxrgaze_ray.models.fusion import FusionClassifier, fuse, means
from cxrgaze_ray.models.losses import JointLoss
from cxrgaze_ray.models.network import DenseNetNetwork, NetworkOutput, make_densenet
from cxrgaze_ray.models.settings import PRESETS, GazeNetConfig
from cxrgaze_ray.models.unet import ResidualLevel, SaliencyHead, UNetDecoder, UNetEncoder, log_density

__all__ = ["PRESETS", "GazeNet", "GazeNetConfig"]


class GazeNet(DenseNetNetwork):
    """The paper's network. Input: (B,1,H,W) float in [0,1], H and W multiples of 32.

    Beside forward(), the pieces that the training phases need: `tap`, `densenet_logits`, `saliency`, `fused`,
    `classify`.
    """

    config: GazeNetConfig

    def __init__(self, config: GazeNetConfig) -> None:
        super().__init__(config)
        self.encoder = UNetEncoder(config.widths, partial(ResidualLevel, settings=config))
        self.densenet = make_densenet(config)
        vector = self.densenet.classifier.in_features
        deep = vector if config.tap == "denseblock4" else self.densenet.features.transition3.conv.out_channels
        # DenseNet's features lie below the bottleneck, which is a skip here, and the last stage keeps its skip's width
        outputs = [*reversed(config.widths[:-1]), config.widths[0]]
        self.decoder = UNetDecoder(deep, zip(reversed(config.widths), outputs, strict=True))
        self.saliency_head = SaliencyHead(config)
        self.classifier = FusionClassifier(vector + config.widths[0], config)
        self.joint_loss = JointLoss() if config.joint else None

    def features(self, image_B1HW: Tensor, _gaze_BHW: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return DenseNet's features that the decoder reads (B, C, h, w), and its pooled vector (B, C)."""
        raw_BCHW, transition3_BCHW = self.densenet_features(image_B1HW)
        deep_BCHW = raw_BCHW if self.config.tap == "denseblock4" else transition3_BCHW
        return deep_BCHW, pooled(self.densenet, raw_BCHW)

    def decode(self, image_B1HW: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        """Return the map's scores (B,1,H,W), and the last decoder output's means (B, C)."""
        deep_BCHW, _ = features
        decoded_BCHW = self._decoded(image_B1HW, deep_BCHW)
        return self.saliency_head(decoded_BCHW), means(decoded_BCHW)

    def answers(self, *computed: Tensor) -> NetworkOutput:
        """Return log saliency and logits."""
        _, vector_BC, scores_B1HW, means_BC = computed
        return NetworkOutput(log_density(scores_B1HW), self.classifier(fuse(vector_BC, means_BC)))

    def saliency(self, image_B1HW: Tensor, deep_BCHW: Tensor | None = None) -> Tensor:
        """Return the log saliency (B,1,H,W) only; ValueError if the size is not a multiple of 32.

        `deep_BCHW` is what `features` returns first, if it is known.
        """
        self.check_size(image_B1HW)
        if deep_BCHW is None:
            deep_BCHW, _ = self.features(image_B1HW)
        return log_density(self.saliency_head(self._decoded(image_B1HW, deep_BCHW)))

    def fused(self, image_B1HW: Tensor) -> Tensor:
        """Return the fused features (B, F) that the classifier reads, float32; ValueError as `saliency`."""
        self.check_size(image_B1HW)
        deep_BCHW, vector_BC = self.features(image_B1HW)
        return fuse(vector_BC, means(self._decoded(image_B1HW, deep_BCHW)))

    def classify(self, fused_BF: Tensor) -> Tensor:
        """Return the logits (B,3) of fused features."""
        logits_BK: Tensor = self.classifier(fused_BF)
        return logits_BK

    def parts(self) -> dict[str, list[nn.Module]]:
        """Return the modules by the names that training phases use."""
        return super().parts() | {
            "saliency_path": [self.encoder, self.decoder, self.saliency_head],
            "classifier": [self.classifier],
            "joint_loss": [] if self.joint_loss is None else [self.joint_loss],
        }

    def _decoded(self, image_B1HW: Tensor, deep_BCHW: Tensor) -> Tensor:
        """Return the last decoder output (B, C, H, W)."""
        decoded_BCHW: Tensor = self.decoder(deep_BCHW, self.encoder(image_B1HW))
        return decoded_BCHW
