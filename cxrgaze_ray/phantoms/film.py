"""From tissue to film: what the beam leaves of it, the detector's grain, the collimated border, the side marker."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from cxrgaze_ray.phantoms.canvas import Canvas, Floats


def expose(canvas: Canvas, tissue: Floats, rng: Generator, drift: float) -> Floats:
    """Turn thickness into film: what is absorbed, with scatter, and the beam's limits cut out."""
    scatter = cv2.GaussianBlur(tissue, (0, 0), 0.05 * canvas.height)
    total = np.clip(0.86 * tissue + 0.14 * scatter, 0, None)
    dose = rng.uniform(0.85, 1.25) * (1 + 0.5 * drift)
    film = 1 - np.exp(-dose * total)
    return np.asarray((film / film.max()) ** rng.uniform(0.85, 1.2), np.float32)


def finish(film: Floats, rows: int, columns: int, rng: Generator, drift: float, *, marker: bool) -> Floats:
    """Enlarge, add the detector's grain, cut the collimated border, set the side marker."""
    image = cv2.resize(film, (columns, rows), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    grain = rng.standard_normal((rows // 2 + 1, columns // 2 + 1), dtype=np.float32)
    grain = cv2.resize(grain, (columns, rows), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    image += grain * (0.010 + 0.018 * drift) * np.sqrt(0.25 + np.clip(1 - image, 0, 1))
    if rng.random() < 0.6:
        _collimate(image, rng)
    if marker:
        _mark(image, rng)
    return np.clip(image, 0, 1)


def _collimate(image: Floats, rng: Generator) -> None:
    rows, columns = image.shape
    top, bottom, left, right = (int(share * size) for share, size in zip(
        rng.uniform(0, 0.035, 4), (rows, rows, columns, columns), strict=True))  # fmt: skip
    image[:top] = image[rows - bottom :] = 0
    image[:, :left] = image[:, columns - right :] = 0


def _mark(image: Floats, rng: Generator) -> None:
    """Set a lead letter beside the shoulder: bright, as lead absorbs everything."""
    rows, columns = image.shape
    letter, share = ("L", 0.90) if rng.random() < 0.5 else ("R", 0.06)
    origin = (int(columns * share), int(rows * rng.uniform(0.06, 0.12)))
    ink = np.zeros(image.shape, np.uint8)
    cv2.putText(ink, letter, origin, cv2.FONT_HERSHEY_SIMPLEX, rows / 600, 255, max(2, rows // 240), cv2.LINE_AA)
    np.maximum(image, ink.astype(np.float32) / 255, out=image)
