"""Saliency maps outside the network: as 8-bit PNG, as a picture, and back on the source's pixels."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrgaze_ray.schemas import HEIGHT, SALIENCY_HEIGHT, SALIENCY_WIDTH, WIDTH, Affine
from cxrgaze_ray.schemas.orientation import turn_back

_RUNS = (cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
"""Smooth maps are half as much work to compress by runs alone, and a fifth larger at most."""


def shrink(density_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a density at the grid it is stored at, (320, 256): means over areas. One that is, stays."""
    if density_HW.shape == (SALIENCY_HEIGHT, SALIENCY_WIDTH):
        return density_HW
    small: Any = cv2.resize(density_HW, (SALIENCY_WIDTH, SALIENCY_HEIGHT), interpolation=cv2.INTER_AREA)
    return small  # type: ignore[no-any-return]


def to_levels(density_HW: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float]:
    """Return a density as 8-bit levels (320, 256), scaled to its peak, and the peak's density: see `shrink`."""
    small = shrink(density_HW)
    peak = float(small.max())
    levels = np.rint(small * (255 / peak)).astype(np.uint8) if peak > 0 else np.zeros(small.shape, np.uint8)
    return levels, peak


def encode_levels(levels_HW: NDArray[np.uint8]) -> bytes:
    """Return levels as an 8-bit grey PNG."""
    return cv2.imencode(".png", levels_HW, _RUNS)[1].tobytes()


def encode(density_HW: NDArray[np.float32]) -> tuple[bytes, float]:
    """Return a density as an 8-bit grey PNG of 320x256, and the peak's density: see `to_levels`."""
    levels, peak = to_levels(density_HW)
    return encode_levels(levels), peak


def decode(png: bytes) -> NDArray[np.float32]:
    """Return the density (640, 512), summing to 1, that a saliency PNG stands for; never compute KL from it."""
    return _normalised(cv2.resize(_levels(png), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR))


def decode_relative(png: bytes) -> NDArray[np.float32]:
    """Return the map (640, 512) that an 8-bit PNG stands for, in [0,1]: relative to its peak."""
    return np.asarray(cv2.resize(_levels(png) / 255, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), np.float32)


def decode_small(png: bytes) -> NDArray[np.float32]:
    """Return the density at the grid it is stored at, (320, 256), summing to 1."""
    return _normalised(_levels(png))


def _levels(png: bytes) -> NDArray[np.float32]:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.asarray(image, dtype=np.float32)


def overlay(
    image_HW: NDArray[np.uint16],
    density_HW: NDArray[np.float32],
    strength: float = 0.55,
    hottest: float | None = None,
) -> NDArray[np.uint8]:
    """Return an RGB picture (H, W, 3): the grey image, warmed where the density is high; anatomy stays visible.

    The hottest colour stands for the density's own peak, if no other value is given.
    """
    grey = (image_HW >> 8).astype(np.uint8)
    relative = np.minimum(density_HW / (hottest or max(float(density_HW.max()), 1e-30)), 1)
    heat = cv2.cvtColor(cv2.applyColorMap((relative * 255).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    alpha = (strength * np.sqrt(relative))[..., None]
    blended: NDArray[np.uint8] = np.rint(grey[..., None] * (1 - alpha) + heat * alpha).astype(np.uint8)
    return blended


def to_source(density_HW: NDArray[np.float32], affine: Affine) -> NDArray[np.float32]:
    """Return the density on the stored source's pixels (rows, columns), summing to 1: padding, scale and turn undone.

    Bilinear between model pixels; 0 where the source was cropped away, which no model has seen.
    """
    (rows, columns), (height, width) = affine.shown, affine.upright
    y = (np.arange(height) + 0.5) * affine.scale_y + affine.offset_y
    x = (np.arange(width) + 0.5) * affine.scale_x + affine.offset_x
    source = _interpolate(_interpolate(density_HW[rows, columns], y - rows.start).T, x - columns.start).T
    source[(y < 0) | (y >= HEIGHT)] = 0
    source[:, (x < 0) | (x >= WIDTH)] = 0
    return turn_back(_normalised(source), affine.orientation)


def _interpolate(values: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return rows at places, of which row i has its centre at i + 0.5; the outer ones go on beyond the ends."""
    index = np.clip(places - 0.5, 0, len(values) - 1)
    lower = index.astype(np.intp)
    before, after = values[lower], values[np.minimum(lower + 1, len(values) - 1)]
    mixed: NDArray[np.float32] = before + (after - before) * (index - lower).astype(np.float32)[:, None]
    return mixed


def _normalised(density: NDArray[Any]) -> NDArray[np.float32]:
    """Bring a density to sum 1; one of zeros becomes an even one."""
    total = float(density.sum())
    normalised = density / total if total > 0 else np.full_like(density, 1 / density.size)
    return normalised.astype(np.float32, copy=False)


def png_bytes(pixels: NDArray[Any]) -> bytes:
    """Return 8-bit grey or RGB pixels as PNG; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()
