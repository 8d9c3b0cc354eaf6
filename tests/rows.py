"""Small shard-store rows, made from arrays."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from cxrgaze_ray.schemas import HEIGHT, WIDTH
from cxrgaze_ray.training.feed import Feed
from cxrgaze_ray.training.ranks import World
from cxrgaze_ray.training.rows import HeldRows, StoredRow


def make_rows(count: int, seed: int = 0, *, labels: bool = True, gaze: bool = True) -> list[StoredRow]:
    """Return rows whose class can be seen: a bright spot, one of three places, that the gaze dwells on."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    rows = []
    for index in range(count):
        label = index % 3
        spot = np.exp(-(((y - 160 * (label + 1)) / 90) ** 2) - ((x - 256) / 90) ** 2)
        noise = cv2.resize(rng.random((20, 16), dtype=np.float32), (WIDTH, HEIGHT))
        image = np.rint(65535 * np.clip(0.3 * noise + 0.6 * spot, 0, 1)).astype("<u2")
        density = np.rint(65535 * spot).astype("<u2")
        rows.append(
            StoredRow(
                image_id=f"image-{index:03d}",
                label=label if labels else None,
                image=image.tobytes(),
                gaze=density.tobytes() if gaze else None,
            )
        )
    return rows


def feed_of(rows: Iterable[StoredRow], world: World | None = None, seed: int = 0) -> Feed:
    """Return a feed of rows that are held in memory."""
    return Feed(HeldRows(rows), world, seed)
