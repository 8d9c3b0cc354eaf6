"""Random turns, crops and mirror images of a training batch; gaze moves with its image."""

from __future__ import annotations

from dataclasses import replace

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from cxrgaze_ray.training.stages import Batch

_DEGREES = 5
_LEAST_AREA = 0.9
_RATIO = (0.95, 1.05)


def augmented(batch: Batch) -> Batch:
    """Return a batch whose images are turned, cropped and mirrored at random, each differently, gaze with them.

    Draws from torch's RNG. A map keeps its scale; one whose mass the crop cuts off altogether has none any more.
    """
    size = batch.image_BCHW.shape[-2:]
    change = v2.Compose(
        [
            v2.RandomRotation(_DEGREES, interpolation=v2.InterpolationMode.BILINEAR),
            v2.RandomResizedCrop(size, scale=(_LEAST_AREA, 1.0), ratio=_RATIO, antialias=True),
            v2.RandomHorizontalFlip(),
        ]
    )
    moved = [
        # both as images: a mask would be moved without interpolation, which tears a density
        change(tv_tensors.Image(image), tv_tensors.Image(gaze[None]))
        for image, gaze in zip(batch.image_BCHW, batch.gaze_BHW, strict=True)
    ]
    images, gazes = (torch.stack([torch.as_tensor(pair[part]) for pair in moved]) for part in (0, 1))
    return replace(batch, image_BCHW=images.as_subclass(torch.Tensor), gaze_BHW=gazes[:, 0].as_subclass(torch.Tensor))
