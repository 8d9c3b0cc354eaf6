"""Simulate how a reader's gaze moves over a phantom: landmarks in turn, and a long dwell on what is abnormal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from cxrgaze_ray.phantoms.anatomy import Phantom

RATE_HZ = 60
_TOUR = (
    "trachea", "apex_right", "apex_left", "hilum_left", "mid_left", "mid_right", "hilum_right", "heart_right", "heart",
    "heart_left", "angle_left", "dome_left", "dome_right", "angle_right",
)  # fmt: skip


@dataclass(frozen=True)
class Scanpath:
    """A reading at 60 Hz.

    Attributes
    ----------
    samples
        (N, 2), y and x in source pixels; NaN while the eyes are shut.
    fixation
        (N,), number of the fixation a sample belongs to.
    """

    samples: NDArray[np.float64]
    fixation: NDArray[np.int64]


def look(phantom: Phantom, rng: Generator) -> Scanpath:
    """Read a phantom: a tour of most landmarks, with returns to every finding: 2 to 11 s in all."""
    rows, columns = phantom.image.shape
    spread = 0.018 * rows
    targets = [phantom.landmarks[name] for name in _TOUR if rng.random() < 0.85]
    places = [(target, spread, rng.uniform(0.15, 0.40)) for target in targets]
    for y, x, radius in phantom.findings:
        for _ in range(rng.integers(7, 12) if len(phantom.findings) == 1 else rng.integers(3, 5)):
            visit = ((y, x), 0.45 * radius, rng.uniform(0.25, 0.55))
            places.insert(int(rng.integers(2, len(places) + 1)), visit)
    parts, numbers = [], []
    for number, (centre, width, seconds) in enumerate(places):
        count = round(seconds * RATE_HZ)
        at = np.array(centre) + rng.normal(0, width, 2)
        parts.append(at + rng.normal(0, 0.004 * rows, (count, 2)))
        numbers.append(np.full(count, number + 1))
    samples, fixation = np.concatenate(parts), np.concatenate(numbers)
    samples[rng.random(len(samples)) < 0.02] = np.nan  # blinks
    astray = rng.random(len(samples)) < 0.01
    samples[astray] = rng.uniform(1.02, 1.1, (int(astray.sum()), 2)) * (rows, columns)
    return Scanpath(samples, fixation)
