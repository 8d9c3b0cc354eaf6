"""Random changes of training images: an image and its gaze move together, and only the image changes its tones."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from cxrgaze_ray.training.phase_settings import Augmentation

_DEGREES = 5
_LEAST_AREA = 0.9
_RATIO = (0.95, 1.05)
"""Least and most change of the ratio of width to height."""

_LEAST_MASS = 0.5
"""Share of a gaze map that a change must leave in the picture."""


def draws_of(seed: int, epoch: int, image_id: str) -> np.random.Generator:
    """Return an image's own random draws in an epoch: the same whatever thread or worker makes them, and when."""
    name = int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8], "big")
    return np.random.default_rng([seed, epoch, name])


def augmented(image_1HW: Tensor, gaze_HW: Tensor | None, draws: np.random.Generator) -> tuple[Tensor, Tensor | None]:
    """Return an image turned, cropped and mirrored at random as GazeGNN's authors do, its gaze with it.

    A map keeps its scale. A crop that would cut off all of its mass is not made: nothing could be learned from it.

    Parameters
    ----------
    image_1HW
        float32 (1, H, W) in [0,1].
    gaze_HW
        float32 (H, W), or None.
    draws
        See `draws_of`.
    """
    # both as images: a mask would be moved without interpolation, which tears a density
    layers = [image_1HW] if gaze_HW is None else [image_1HW, gaze_HW[None]]
    size = [int(length) for length in image_1HW.shape[-2:]]
    angle = float(draws.uniform(-_DEGREES, _DEGREES))
    box = _crop(size[0], size[1], draws)
    mirrored = draws.random() < 0.5
    moved = []
    for layer in layers:
        turned = functional.rotate(layer, angle, interpolation=InterpolationMode.BILINEAR)
        cut = functional.resized_crop(turned, *box, size, antialias=True)
        moved.append(functional.horizontal_flip(cut) if mirrored else cut)
    if gaze_HW is not None and gaze_HW.any() and not moved[1].any():
        moved = layers
    return moved[0], None if gaze_HW is None else moved[1][0]


def _crop(height: int, width: int, draws: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw top, left, height and width of a crop; if no shape fits in ten draws, all of the image."""
    for _ in range(10):
        area = draws.uniform(_LEAST_AREA, 1.0)
        ratio = math.exp(draws.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        # of the image's own shape: of a square, only square images have crops of nearly their area
        tall, wide = round(height * math.sqrt(area / ratio)), round(width * math.sqrt(area * ratio))
        if tall <= height and wide <= width:
            top, left = draws.integers(0, height - tall + 1), draws.integers(0, width - wide + 1)
            return int(top), int(left), tall, wide
    return 0, 0, height, width


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
            interpolation=InterpolationMode.BILINEAR,
        )
        return moved_CHW
