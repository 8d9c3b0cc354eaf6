"""Inception-ResNet-v2 (Szegedy et al. 2017) as a classifier, by timm."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cxrgaze_ray.models.network import Network, NetworkOutput
from cxrgaze_ray.models.pretrained import BackboneReport, Published, load_first_weights
from cxrgaze_ray.models.settings import InceptionConfig
from cxrgaze_ray.schemas import CLASSES

_NAME = "inception_resnet_v2"


class InceptionResNetV2(Network):
    """timm's network with a head for the classes; smaller presets repeat its blocks less often."""

    config: InceptionConfig
    mean_3: Tensor
    std_3: Tensor

    def __init__(self, config: InceptionConfig) -> None:
        import timm.data  # takes a second, which no other network needs

        super().__init__(config)
        self.inception = timm.create_model(_NAME, num_classes=len(CLASSES))
        for name, count in zip(("repeat", "repeat_1", "repeat_2"), config.repeats, strict=True):
            blocks = self.inception.get_submodule(name)
            self.inception.set_submodule(name, nn.Sequential(*list(blocks.children())[:count]))
        # what timm's ImageNet weights were trained with
        self.register_buffer("mean_3", torch.tensor(timm.data.IMAGENET_INCEPTION_MEAN), persistent=False)
        self.register_buffer("std_3", torch.tensor(timm.data.IMAGENET_INCEPTION_STD), persistent=False)

    def features(self, image_B1HW: Tensor, _gaze_BHW: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the logits (B,3)."""
        image_B3HW = (image_B1HW - self.mean_3[:, None, None]) / self.std_3[:, None, None]
        logits_BK: Tensor = self.inception(image_B3HW)
        return (logits_BK.float(),)

    def answers(self, *computed: Tensor) -> NetworkOutput:
        """Return the logits."""
        return NetworkOutput(None, *computed)

    def parts(self) -> dict[str, list[nn.Module]]:
        """Return no parts: its one phase trains the whole network."""
        return {}

    def load_pretrained(self, weights_file: str | None = None) -> BackboneReport:
        """Load its first weights, timm's published ones if no file is given: see `pretrained.load_first_weights`."""
        return load_first_weights(self.inception, _IMAGENET, weights_file, fits=self.config.fits_imagenet)


def _download() -> Mapping[str, Tensor]:
    import timm
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # where there is no way to the weights, one warning of ours says it, not a line for every try
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return timm.create_model(_NAME, pretrained=True).state_dict()


_IMAGENET = Published("Inception-ResNet-v2", "timm", "classif", _download)
