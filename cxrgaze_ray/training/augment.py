"""Random changes of a training batch: an image and its gaze move together, and only the image changes its tones."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

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


def draws(seed: int, epoch: int, image_id: str) -> torch.Generator:
    """Return the random numbers of one row in one epoch: the same on whatever rank, and wherever a training resumed."""
    digest = hashlib.sha256(f"{seed}\0{epoch}\0{image_id}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))


def changed(batch: Batch, amounts: Augmentation, generators: Sequence[torch.Generator]) -> Batch:
    """Return a batch whose images are changed at random, each by its own generator, gaze moving with them.

    A move that would push more than half of a gaze map out of the picture is not made.

    Parameters
    ----------
    batch
        Images (B, 1, H, W) in [0,1]; maps (B, H, W), or none.
    amounts
        How far the changes may go.
    generators
        One for each row.
    """
    seen = batch.gaze_BHW.ndim == 3
    images, gazes = [], []
    for place, generator in enumerate(generators):
        change = _Change.drawn(amounts, generator)
        toned_1HW = change.toned(batch.image_BCHW[place], generator)
        pair_CHW = torch.cat([toned_1HW, batch.gaze_BHW[place, None]]) if seen else toned_1HW
        moved_CHW = change.moved(pair_CHW)
        if seen and moved_CHW[-1].sum() < _LEAST_MASS * pair_CHW[-1].sum():
            moved_CHW = pair_CHW
        images.append(moved_CHW[:1])
        gazes += [moved_CHW[1]] if seen else []
    return replace(batch, image_BCHW=torch.stack(images), gaze_BHW=torch.stack(gazes) if seen else batch.gaze_BHW)


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
    def drawn(cls, amounts: Augmentation, generator: torch.Generator) -> _Change:
        """Draw a change; as many numbers are drawn whatever the amounts are."""
        *ways, chance = torch.rand(8, generator=generator).tolist()
        turn, down, right, growth, light, contrast, gamma = (2 * way - 1 for way in ways)
        return cls(
            degrees=amounts.degrees * turn,
            down=amounts.shift * down,
            right=amounts.shift * right,
            scale=1 + amounts.scale * growth,
            mirrored=chance < amounts.flip,
            brightness=amounts.brightness * light,
            contrast=1 + amounts.contrast * contrast,
            exponent=math.exp(amounts.gamma * gamma),
            noise=amounts.noise,
        )

    def toned(self, image_1HW: Tensor, generator: torch.Generator) -> Tensor:
        """Change tones; black stays black, since the padding's grey would tell of the change, which no film does."""
        black_1HW = image_1HW == 0
        bent_1HW = image_1HW**self.exponent
        mean = bent_1HW.sum() / (~black_1HW).sum().clamp(min=1)
        toned_1HW = (bent_1HW - mean) * self.contrast + mean + self.brightness
        toned_1HW = toned_1HW + self.noise * torch.randn(image_1HW.shape, generator=generator)
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
