"""GazeNet: diagnosis and gaze from one radiograph (Qiu, Rivaz, Xiao; Med Phys 2025, doi 10.1002/mp.17977).

image ─┬─ U-Net encoder ──── skips ───┐
       └─ DenseNet ─┬─ raw features ─ decoder ─┬─ saliency head ── log saliency
                    └─ pooled ─────────────────┴─ pooled ── fusion classifier ── logits
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import DenseNet

from cxrgaze_ray.models.densenet import CONTRASTIVE_PARTS, pooled
from cxrgaze_ray.models.settings import PRESETS, STRIDE, GazeNetConfig
from cxrgaze_ray.models.unet import SaliencyHead, UNetDecoder, UNetEncoder
from cxrgaze_ray.schemas import CLASSES

__all__ = ["PRESETS", "FusionClassifier", "GazeNet", "GazeNetConfig", "GazeNetOutput"]


class GazeNetOutput(NamedTuple):
    """Both answers, float32: log saliency (B,1,H,W), its exp summing to 1 over pixels, and logits (B,3)."""

    log_saliency_B1HW: Tensor
    logits_BK: Tensor


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


class GazeNet(nn.Module):
    """The paper's network. Input: (B,1,H,W) float in [0,1], H and W multiples of 32.

    Beside forward(), the pieces that the training phases need: `tap`, `densenet_logits`, `saliency`, `fused`,
    `classify`.
    """

    def __init__(self, config: GazeNetConfig) -> None:
        super().__init__()
        self.config = config
        self.exact_densenet = False
        """Compute DenseNet in float32 under autocast too: rounding its weights moves every image's logits alike."""
        self.encoder = UNetEncoder(config.widths, config.se_reduction)
        self.densenet = DenseNet(
            growth_rate=config.growth_rate,
            block_config=config.block_config,
            num_init_features=config.init_features,
            num_classes=len(CLASSES),
        )
        vector = self.densenet.classifier.in_features
        deep = vector if config.tap == "denseblock4" else self.densenet.features.transition3.conv.out_channels
        self.decoder = UNetDecoder(deep, config.widths)
        self.saliency_head = SaliencyHead(config.widths[0])
        self.classifier = FusionClassifier(vector + config.widths[0], config)

    def forward(self, image_B1HW: Tensor) -> GazeNetOutput:
        """Return log saliency and logits; ValueError if the size is not a multiple of 32."""
        vector_BC, decoded_BCHW = self._decode(image_B1HW)
        return GazeNetOutput(self.saliency_head(decoded_BCHW), self.classifier(_fuse(vector_BC, decoded_BCHW)))

    def tap(self, image_B1HW: Tensor) -> Tensor:
        """Return the raw denseblock4 output (B, C, H/32, W/32), before norm5."""
        return self._densenet(image_B1HW)[0]

    def densenet_logits(self, image_B1HW: Tensor) -> Tensor:
        """Return the logits (B,3) of DenseNet's own head, which the full forward does not use."""
        logits_BK: Tensor = self.densenet.classifier(pooled(self.densenet, self.tap(image_B1HW)))
        return logits_BK.float()

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
        features = self.densenet.features
        return {
            "densenet_contrastive": [features.get_submodule(name) for name in CONTRASTIVE_PARTS],
            "densenet": [self.densenet],
            "saliency_path": [self.encoder, self.decoder, self.saliency_head],
            "classifier": [self.classifier],
        }

    def _densenet(self, image_B1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the raw denseblock4 output and transition3's."""
        x_BCHW, transition3_BCHW = image_B1HW.expand(-1, 3, -1, -1), image_B1HW
        exact = torch.autocast(image_B1HW.device.type, enabled=False) if self.exact_densenet else nullcontext()
        with exact:
            for name, layer in self.densenet.features.named_children():
                if name == "norm5":
                    break
                x_BCHW = layer(x_BCHW)
                if name == "transition3":
                    transition3_BCHW = x_BCHW
        return x_BCHW, transition3_BCHW

    def _decode(self, image_B1HW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled DenseNet vector (B, C) and the last decoder output (B, C, H, W)."""
        height, width = image_B1HW.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise ValueError(f"{height}x{width} is not a multiple of {STRIDE} each way")
        raw_BCHW, transition3_BCHW = self._densenet(image_B1HW)
        deep_BCHW = raw_BCHW if self.config.tap == "denseblock4" else transition3_BCHW
        decoded_BCHW = self.decoder(deep_BCHW, self.encoder(image_B1HW))
        return pooled(self.densenet, raw_BCHW), decoded_BCHW


def _fuse(vector_BC: Tensor, decoded_BCHW: Tensor) -> Tensor:
    """Return the classifier's input, in float32."""
    return torch.cat([vector_BC.float(), decoded_BCHW.float().mean(dim=(2, 3))], dim=1)
