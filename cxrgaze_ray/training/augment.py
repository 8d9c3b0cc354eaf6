"""Random changes of a training batch: an image and its gaze move together, and only the image changes its tones."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from cxrgaze_ray.training.phase_settings import Augmentation
from cxrgaze_ray.training.stages import Batch

_DEGREES = 5
_LEAST_AREA = 0.9
_RATIO = (0.95, 1.05)
_LEAST_MASS = 0.5
"""Share of a gaze map that a change must leave in the picture."""


def augmented(batch: Batch) -> Batch:
    """Return a batch whose images are turned, cropped and mirrored at random as GazeGNN's authors do, gaze with them.

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


def draws_of(seed: int, epoch: int, image_id: str) -> np.random.Generator:
    """Return an image's own random draws in an epoch: the same whatever thread or worker makes them, and when."""
    name = int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8], "big")
    return np.random.default_rng([seed, epoch, name])


def changed(
    image_1HW: Tensor, gaze_HW: Tensor | None, amounts: Augmentation, draws: np.random.Generator
) -> tuple[Tensor, Tensor | None]:
    """Return an image moved and toned at random, and its gaze moved with it.

    A move that would push more than half of the gaze out of the picture is not made.

    Parameters
    ----------
    image_1HW
        float32 (1, H, W) in [0,1].
    gaze_HW
        float32 (H, W), or None.
    amounts
        How far the changes may go.
    draws
        See `draws_of`.
    """
    change = _Change.drawn(amounts, draws)
    toned_1HW = change.toned(image_1HW, draws)
    if gaze_HW is None:
        return change.moved(toned_1HW), None
    pair_CHW = torch.cat([toned_1HW, gaze_HW[None]])
    moved_CHW = change.moved(pair_CHW)
    if moved_CHW[1].sum() < _LEAST_MASS * gaze_HW.sum():
        moved_CHW = pair_CHW
    return moved_CHW[:1], moved_CHW[1]


@dataclass(frozen=True)
class _Change:
    """What is done to one image: degrees, shares of its size, and levels of its range of 1."""

    degrees: float
    down: float
    right: float
    scale: float
    mirrored: bool
    brightness: float
    contrast: float
    exponent: float
    noise: float

    @classmethod
    def drawn(cls, amounts: Augmentation, draws: np.random.Generator) -> _Change:
        """Draw a change; as many numbers are drawn whatever the amounts are."""
        turn, down, right, growth, light, contrast, gamma = draws.uniform(-1, 1, 7).tolist()
        return cls(
            degrees=amounts.degrees * turn,
            down=amounts.shift * down,
            right=amounts.shift * right,
            scale=1 + amounts.scale * growth,
            mirrored=draws.random() < amounts.flip,
            brightness=amounts.brightness * light,
            contrast=1 + amounts.contrast * contrast,
            exponent=math.exp(amounts.gamma * gamma),
            noise=amounts.noise,
        )

    def toned(self, image_1HW: Tensor, draws: np.random.Generator) -> Tensor:
        """Change tones; black stays black, since the padding's grey would tell of the change, which no film does."""
        black_1HW = image_1HW == 0
        bent_1HW = image_1HW**self.exponent
        mean = bent_1HW.sum() / (~black_1HW).sum().clamp(min=1)
        toned_1HW = (bent_1HW - mean) * self.contrast + mean + self.brightness
        toned_1HW = toned_1HW + self.noise * torch.from_numpy(draws.standard_normal(image_1HW.shape, np.float32))
        return toned_1HW.clamp(0, 1).masked_fill(black_1HW, 0.0)

    def moved(self, picture_CHW: Tensor) -> Tensor:
        """Move all channels alike; what comes in from outside is 0."""
        height, width = picture_CHW.shape[-2:]
        if self.mirrored:
            picture_CHW = picture_CHW.flip(-1)
        moved_CHW: Tensor = functional.affine(
            picture_CHW,
            angle=self.degrees,
            translate=[self.right * width, self.down * height],
            scale=self.scale,
            shear=[0.0, 0.0],
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        return moved_CHW
