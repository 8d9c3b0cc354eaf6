"""GazeNet: diagnosis and gaze from one radiograph (Qiu, Rivaz, Xiao; Med Phys 2025, doi 10.1002/mp.17977).

image ─┬─ U-Net encoder ──── skips ───┐
       └─ DenseNet ─┬─ raw features ─ decoder ─┬─ saliency head ── log saliency
                    └─ pooled ─────────────────┴─ pooled ── fusion classifier ── logits
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cxrgaze_ray.models.densenet import pooled
from cxrgaze_ray.models.losses import JointLoss
from cxrgaze_ray.models.network import DenseNetNetwork, NetworkOutput, make_densenet
from cxrgaze_ray.models.settings import PRESETS, GazeNetConfig
from cxrgaze_ray.models.unet import SaliencyHead, UNetDecoder, UNetEncoder
from cxrgaze_ray.schemas import CLASSES

__all__ = ["PRESETS", "FusionClassifier", "GazeNet", "GazeNetConfig"]


class FusionClassifier(nn.Module):
    """cat(pooled DenseNet, pooled decoder output) to class logits."""

    def __init__(self, inputs: int, config: GazeNetConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, config.fusion_hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.fusion_hidden, len(CLASSES))

    def forward(self, fused_BF: Tensor) -> Tensor:
        # float32 whatever precision the features were computed in: it costs nothing, and rounding here would show
        with torch.autocast(fused_BF.device.type, enabled=False):
            logits_BK: Tensor = self.out(self.dropout(torch.relu(self.hidden(fused_BF.float()))))
        return logits_BK


class GazeNet(DenseNetNetwork):
    """The paper's network. Input: (B,1,H,W) float in [0,1], H and W multiples of 32.

    Beside forward(), the pieces that the training phases need: `tap`, `densenet_logits`, `saliency`, `fused`,
    `classify`.
    """

    config: GazeNetConfig

    def __init__(self, config: GazeNetConfig) -> None:
        super().__init__(config)
        self.encoder = UNetEncoder(config.widths, config.se_reduction)
        self.densenet = make_densenet(config)
        vector = self.densenet.classifier.in_features
        deep = vector if config.tap == "denseblock4" else self.densenet.features.transition3.conv.out_channels
        self.decoder = UNetDecoder(deep, config.widths)
        self.saliency_head = SaliencyHead(config.widths[0])
        self.classifier = FusionClassifier(vector + config.widths[0], config)
        self.joint_loss = JointLoss() if config.joint else None

    def forward(self, image_B1HW: Tensor, _gaze_BHW: Tensor | None = None) -> NetworkOutput:
        """Return log saliency and logits; ValueError if the size is not a multiple of 32."""
        vector_BC, decoded_BCHW = self._decode(image_B1HW)
        return NetworkOutput(self.saliency_head(decoded_BCHW), self.classifier(_fuse(vector_BC, decoded_BCHW)))

    def saliency(self, image_B1HW: Tensor) -> Tensor:
        """Return the log saliency (B,1,H,W) only."""
        log_saliency: Tensor = self.saliency_head(self._decode(image_B1HW)[1])
        return log_saliency

    def fused(self, image_B1HW: Tensor) -> Tensor:
        """Return the fused features (B, F) that the classifier reads, float32."""
        vector_BC, decoded_BCHW = self._decode(image_B1HW)
        return _fuse(vector_BC, decoded_BCHW)

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

    def _decode(self, image_B1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled DenseNet vector (B, C) and the last decoder output (B, C, H, W)."""
        self.check_size(image_B1HW)
        raw_BCHW, transition3_BCHW = self.densenet_features(image_B1HW)
        deep_BCHW = raw_BCHW if self.config.tap == "denseblock4" else transition3_BCHW
        decoded_BCHW = self.decoder(deep_BCHW, self.encoder(image_B1HW))
        return pooled(self.densenet, raw_BCHW), decoded_BCHW


def _fuse(vector_BC: Tensor, decoded_BCHW: Tensor) -> Tensor:
    """Return the classifier's input, in float32."""
    return torch.cat([vector_BC.float(), decoded_BCHW.float().mean(dim=(2, 3))], dim=1)
