"""DNet201 and DNet201-CL: DenseNet with a linear head, from published weights or after the contrastive phase."""

from __future__ import annotations

from torch import Tensor

from cxrgaze_ray.models.network import DenseNetNetwork, NetworkOutput, make_densenet
from cxrgaze_ray.models.settings import DenseNetConfig


class DNet(DenseNetNetwork):
    """DenseNet as a classifier of its own."""

    def __init__(self, config: DenseNetConfig) -> None:
        super().__init__(config)
        self.densenet = make_densenet(config)

    def features(self, image_B1HW: Tensor, _gaze_BHW: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the logits (B,3)."""
        return (self.densenet_logits(image_B1HW),)

    def answers(self, *computed: Tensor) -> NetworkOutput:
        """Return the logits."""
        return NetworkOutput(None, *computed)
