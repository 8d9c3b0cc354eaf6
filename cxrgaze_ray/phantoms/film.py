"""From tissue to film: what the beam leaves of it, the detector's grain, the collimated border, the side marker."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from cxrgaze_ray.phantoms.canvas import Canvas, Floats


@dataclass(frozen=True)
class Technique:
    """How a detector turns the beam into greys.

    Attributes
    ----------
    dose, gamma
        Factors on what varies from image to image.
    contrast
        0 to 1: how much steeper the middle greys are.
    grain
        Spread of its noise, as a share of the range.
    ringed
        Whether the side marker has a ring around its letter.
    """

    dose: float = 1.0
    gamma: float = 1.0
    contrast: float = 0.0
    grain: float = 0.010
    ringed: bool = False


USUAL = Technique()


def expose(canvas: Canvas, tissue: Floats, rng: Generator, technique: Technique) -> Floats:
    """Turn thickness into film: what is absorbed, with scatter, and the beam's limits cut out."""
    scatter = cv2.GaussianBlur(tissue, (0, 0), 0.05 * canvas.height)
    total = np.clip(0.86 * tissue + 0.14 * scatter, 0, None)
    dose = rng.uniform(0.85, 1.25) * technique.dose
    film = 1 - np.exp(-dose * total)
    film = (film / film.max()) ** (rng.uniform(0.85, 1.2) * technique.gamma)
    if technique.contrast:
        film += technique.contrast * film * (1 - film) * (2 * film - 1)
    return np.asarray(film, np.float32)


def finish(film: Floats, rows: int, columns: int, rng: Generator, technique: Technique, *, marker: bool) -> Floats:
    """Enlarge, add the detector's grain, cut the collimated border, set the side marker."""
    image = cv2.resize(film, (columns, rows), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    grain = rng.standard_normal((rows // 2 + 1, columns // 2 + 1), dtype=np.float32)
    grain = cv2.resize(grain, (columns, rows), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    image += grain * technique.grain * np.sqrt(0.25 + np.clip(1 - image, 0, 1))
    if rng.random() < 0.6:
        _collimate(image, rng)
    if marker:
        _mark(image, rng, ringed=technique.ringed)
    return np.clip(image, 0, 1)


def _collimate(image: Floats, rng: Generator) -> None:
    rows, columns = image.shape
    top, bottom, left, right = (int(share * size) for share, size in zip(
        rng.uniform(0, 0.035, 4), (rows, rows, columns, columns), strict=True))  # fmt: skip
    image[:top] = image[rows - bottom :] = 0
    image[:, :left] = image[:, columns - right :] = 0


def _mark(image: Floats, rng: Generator, *, ringed: bool) -> None:
    """Set a lead letter beside the shoulder: bright, as lead absorbs everything."""
    rows, columns = image.shape
    letter, share = ("L", 0.90) if rng.random() < 0.5 else ("R", 0.06)
    origin = (int(columns * share), int(rows * rng.uniform(0.06, 0.12)))
    ink = np.zeros(image.shape, np.uint8)
    cv2.putText(ink, letter, origin, cv2.FONT_HERSHEY_SIMPLEX, rows / 600, 255, max(2, rows // 240), cv2.LINE_AA)
    if ringed:
        centre = (origin[0] + rows // 66, origin[1] - rows // 57)  # of the letter, which is about 20 pixels high in 600
        cv2.circle(ink, centre, rows // 27, 255, max(1, rows // 240), cv2.LINE_AA)
    np.maximum(image, ink.astype(np.float32) / 255, out=image)
