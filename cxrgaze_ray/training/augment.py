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
    seen = batch.gaze_BHW.ndim == 3  # phases that learn from no gaze carry none
    images, gazes = [], []
    for place, image in enumerate(batch.image_BCHW):
        # both as images: a mask would be moved without interpolation, which tears a density
        pair = [tv_tensors.Image(image), *([tv_tensors.Image(batch.gaze_BHW[place, None])] if seen else [])]
        moved = [torch.as_tensor(part).as_subclass(torch.Tensor) for part in change(pair)]
        images.append(moved[0])
        gazes += [part[0] for part in moved[1:]]
    return replace(batch, image_BCHW=torch.stack(images), gaze_BHW=torch.stack(gazes) if seen else batch.gaze_BHW)
