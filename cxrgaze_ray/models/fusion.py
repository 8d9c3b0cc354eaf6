"""The classifier of a U-Net's decoder output beside a deeper vector, which GazeNet and MT-UNet share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cxrgaze_ray.models.families import FusionSettings
from cxrgaze_ray.schemas import CLASSES


def means(x_BCHW: Tensor) -> Tensor:
    """Return each channel's mean (B, C), in float32."""
    return x_BCHW.float().mean(dim=(2, 3))


def fuse(vector_BC: Tensor, means_BC: Tensor) -> Tensor:
    """Return the classifier's input (B, F), in float32: a deep pooled vector beside the decoder output's means."""
    return torch.cat([vector_BC.float(), means_BC.float()], dim=1)


class FusionClassifier(nn.Module):
    """cat(a deep pooled vector, pooled decoder output) to class logits."""

    def __init__(self, inputs: int, settings: FusionSettings) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, settings.fusion_hidden)
        self.dropout = nn.Dropout(settings.dropout)
        self.out = nn.Linear(settings.fusion_hidden, len(CLASSES))

    def forward(self, fused_BF: Tensor) -> Tensor:
        # float32 whatever precision the features were computed in: it costs nothing, and rounding here would show
        with torch.autocast(fused_BF.device.type, enabled=False):
            logits_BK: Tensor = self.out(self.dropout(torch.relu(self.hidden(fused_BF.float()))))
        return logits_BK
