"""Model images to a network's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def to_network(images_BHW: NDArray[np.uint16], size: tuple[int, int], device: str = "cpu") -> Tensor:
    """Bring model images to a network's input size.

    Parameters
    ----------
    images_BHW
        uint16 (B, 640, 512).
    size
        Height and width of the network's input.
    device
        Where it is done, ``cpu`` or ``cuda``: half as many bytes go to a GPU as uint16.

    Returns
    -------
    torch.Tensor
        float32 (B, 1, h, w) in [0,1], area resampled: exactly so where the ratio is whole, as in every preset.
    """
    import torch  # decoding processes use this package without it
    from torch.nn import functional

    if device == "cpu":
        pixels_BHW = torch.from_numpy(images_BHW.astype(np.float32))
    else:
        pixels_BHW = torch.from_numpy(images_BHW).pin_memory().to(device, non_blocking=True).to(torch.float32)
    image_B1HW = pixels_BHW[:, None] / 65535
    if tuple(image_B1HW.shape[-2:]) == size:
        return image_B1HW
    return functional.interpolate(image_B1HW, size, mode="area")


def gaze_to_network(gaze_BHW: NDArray[np.float32], size: tuple[int, int]) -> Tensor:
    """Bring densities of gaze to a network's input size.

    Parameters
    ----------
    gaze_BHW
        float32 (B, 640, 512), not negative, of any scale.
    size
        Height and width of the network's input.

    Returns
    -------
    torch.Tensor
        float32 (B, h, w), area resampled, each summing to 1; zeros where nobody looked.
    """
    import torch

    height, width = size
    small_BHW = np.stack([cv2.resize(gaze, (width, height), interpolation=cv2.INTER_AREA) for gaze in gaze_BHW])
    mass_B11 = small_BHW.sum(axis=(1, 2), keepdims=True)
    return torch.from_numpy(np.divide(small_BHW, mass_B11, out=np.zeros_like(small_BHW), where=mass_B11 > 0))
