"""Grad-CAM of DenseNet's own head: which pixels moved its arg-max logit. That is not where a reader would look.

After Selvaraju et al. (ICCV 2017), at the output of denseblock4.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import DenseNet

from cxrgaze_ray.models.densenet import pooled
from cxrgaze_ray.models.network import DenseNetNetwork
from cxrgaze_ray.radiograph.preprocess import to_network
from cxrgaze_ray.schemas import HEIGHT, WIDTH


class _Head(nn.Module):
    """What follows denseblock4, after a layer that Grad-CAM can look at."""

    def __init__(self, densenet: DenseNet) -> None:
        super().__init__()
        self.raw, self.densenet = nn.Identity(), densenet

    def forward(self, raw_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.densenet.classifier(pooled(self.densenet, self.raw(raw_BCHW)))
        return logits_BK


def grad_cam(network: DenseNetNetwork, images_BHW: NDArray[np.uint16]) -> tuple[Tensor, Tensor]:
    """Explain the arg-max logit of the head that a network's DenseNet has for itself.

    Parameters
    ----------
    network
        In eval mode; computed in float32, where its weights are.
    images_BHW
        uint16 (B, 640, 512), as `Predictor.predict` takes them; all go through at once.

    Returns
    -------
    tuple of Tensor
        Maps (B, 640, 512), float32, each scaled to a peak of 1, or all 0 where nothing speaks for the class; and the
        head's logits (B, 3), whose arg-max need not be the class that the network predicts.

    Raises
    ------
    ValueError
        If the network is in training mode: batch norm would mix the images and keep what it saw.
    """
    from captum.attr import LayerGradCam  # it brings matplotlib, a second that only those who want a map should wait

    if network.densenet.training:
        raise ValueError("Grad-CAM needs a network in eval mode")
    image_B1HW = to_network(images_BHW, network.config.input_size).to(network.densenet.classifier.weight.device)
    with torch.no_grad():
        # the gradient at denseblock4 depends on nothing before it: no activation of what is before is kept for it
        raw_BCHW = network.tap(image_B1HW)
    head = _Head(network.densenet)
    with torch.enable_grad():
        raw_BCHW.requires_grad_()
        logits_BK = head(raw_BCHW).detach()
        explained = LayerGradCam(head, head.raw).attribute(raw_BCHW, logits_BK.argmax(dim=1), relu_attributions=True)
    cam_BHW = functional.interpolate(explained.detach(), (HEIGHT, WIDTH), mode="bilinear", align_corners=False)[:, 0]
    peak_B11 = cam_BHW.amax(dim=(1, 2), keepdim=True)
    return torch.where(peak_B11 > 0, cam_BHW / peak_B11, cam_BHW), logits_BK
