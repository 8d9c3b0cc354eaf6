"""The canvas that phantoms are drawn on: soft shapes and smooth noise in the thorax's own coordinates.

Coordinates are (u, v): u from -1 to 1 across the thorax, the patient's left on the right; v from 0 at the top edge to 1
at the bottom edge. Everything smooth is drawn on a canvas of CANVAS pixels height and enlarged later.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float32]
CANVAS = 512
_SHIFT = 4  # sub-pixel bits of cv2's drawing


class Canvas:
    """Maps (u, v) to canvas pixels, and draws soft shapes."""

    def __init__(self, rows: int, columns: int, tilt: float) -> None:
        self.height = CANVAS
        self.width = max(64, round(CANVAS * columns / rows))
        v, x = np.mgrid[0 : self.height, 0 : self.width].astype(np.float32)
        self.scale_u = 0.47 * self.width
        u = (x - self.width / 2) / self.scale_u
        self.v = (v + 0.5) / self.height + tilt * u
        self.u = u - tilt * (self.v - 0.5)

    def point(self, u: float, v: float) -> tuple[float, float]:
        """Return (y, x) in canvas pixels, tilt left out: it is small."""
        return v * self.height, u * self.scale_u + self.width / 2

    def lines(self, curves: list[NDArray[np.float64]], width: float, blur: float = 0.0) -> Floats:
        """Draw open curves of (u, v) points as soft bands; width and blur are shares of the height."""
        mask = np.zeros((self.height, self.width), np.uint8)
        thickness = max(1, round(width * self.height))
        for curve in curves:
            points = np.stack([curve[:, 0] * self.scale_u + self.width / 2, curve[:, 1] * self.height], axis=1)
            fixed = np.rint(points * (1 << _SHIFT)).astype(np.int32)
            cv2.polylines(mask, [fixed], False, 255, thickness, cv2.LINE_AA, _SHIFT)
        return self._soft(mask, blur)

    def polygon(self, outline: NDArray[np.float64], blur: float) -> Floats:
        """Fill a closed outline of (u, v) points."""
        mask = np.zeros((self.height, self.width), np.uint8)
        points = np.stack([outline[:, 0] * self.scale_u + self.width / 2, outline[:, 1] * self.height], axis=1)
        cv2.fillPoly(mask, [np.rint(points * (1 << _SHIFT)).astype(np.int32)], 255, cv2.LINE_AA, _SHIFT)
        return self._soft(mask, blur)

    def _soft(self, mask: NDArray[np.uint8], blur: float) -> Floats:
        soft = mask.astype(np.float32) / np.float32(255)
        return np.asarray(cv2.GaussianBlur(soft, (0, 0), blur * self.height), np.float32) if blur else soft

    def blob(self, u: float, v: float, radius_u: float, radius_v: float, power: float = 2.0) -> Floats:
        """Return a bump of height 1 that falls to 1/e at the radii."""
        distance = ((self.u - u) / radius_u) ** 2 + ((self.v - v) / radius_v) ** 2
        bump: Floats = np.exp(-(distance ** (power / 2))).astype(np.float32)
        return bump


def mottle(canvas: Canvas, rng: Generator, cells: int) -> Floats:
    """Return smooth noise with about this many cells a height, of unit spread."""
    coarse = rng.standard_normal((cells, max(2, cells * canvas.width // canvas.height))).astype(np.float32)
    return cv2.resize(coarse, (canvas.width, canvas.height), interpolation=cv2.INTER_CUBIC).astype(np.float32)


def smooth_curve(knots: NDArray[np.float64], *, closed: bool, steps: int = 12) -> NDArray[np.float64]:
    """Return a Catmull-Rom curve through the knots."""
    ends = knots if closed else np.concatenate([knots[:1], knots, knots[-1:]])
    count = len(knots) if closed else len(knots) - 1
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    parts = []
    for i in range(count):
        p = [ends[(i + k - closed) % len(ends)] for k in range(4)]
        parts.append(
            0.5 * (2 * p[1] + (p[2] - p[0]) * t + (2 * p[0] - 5 * p[1] + 4 * p[2] - p[3]) * t**2
                   + (3 * p[1] - p[0] - 3 * p[2] + p[3]) * t**3)
        )  # fmt: skip
    return np.concatenate([*parts, knots[:1] if closed else knots[-1:]])


def soft_step(x: Floats) -> Floats:
    """Return a soft step from 0 to 1 (the logistic function, which does not overflow this way)."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), np.float32)


def quartic(x: Floats) -> Floats:
    """Return the fourth power; NumPy's own takes ten times longer."""
    return np.square(np.square(x))
