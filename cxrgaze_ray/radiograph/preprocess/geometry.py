"""Where source pixels go in the model image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.schemas import HEIGHT, WIDTH, Affine


def fit(rows: int, columns: int, height: int = HEIGHT, width: int = WIDTH, aspect: float = 1.0) -> Affine:
    """Return the affine that fits an upright source into the model image, centred, its shape kept to the pixel.

    `aspect` is the height of a source pixel over its width: what was as high as wide before the detector still is.
    """
    scale = min(height / (rows * aspect), width / columns)
    inner_height, inner_width = max(1, round(rows * aspect * scale)), max(1, round(columns * scale))
    return Affine(
        scale_y=inner_height / rows,
        scale_x=inner_width / columns,
        offset_y=float((height - inner_height) // 2),
        offset_x=float((width - inner_width) // 2),
        rows=rows,
        columns=columns,
    )


def stride(rows: int, columns: int, step: int, height: int = HEIGHT, width: int = WIDTH) -> Affine:
    """Return the affine of a source centred on a canvas of `step` times the model image, of which every step-th pixel
    is taken.

    Model pixel k shows canvas pixel ``step * k``, so the centres meet: ``k + 0.5 = (step * k + 0.5) / step + offset``,
    offset being ``0.5 - 0.5 / step`` and the scaled padding on top. The padding is negative where the source is larger.
    """
    above, left = (step * height - rows) // 2, (step * width - columns) // 2
    half = 0.5 - 0.5 / step
    return Affine(
        scale_y=1 / step,
        scale_x=1 / step,
        offset_y=above / step + half,
        offset_x=left / step + half,
        rows=rows,
        columns=columns,
    )


def resample(image: NDArray[np.float32], affine: Affine) -> NDArray[np.float32]:
    """Bring an image to the size that its content has in the model image: by area, bilinear where it is smaller."""
    height, width = affine.content_size
    shrinking = image.shape[0] >= height and image.shape[1] >= width
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method).astype(np.float32, copy=False)
