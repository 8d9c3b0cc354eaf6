"""What a run would take, from a sample: for --dry-run, without a cluster and without writing anything."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.manifest import Manifest, fetch_listed
from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.models.bundle import read_bundle
from cxrgaze_ray.models.predictor import Predictor, limit_threads, predictor_for
from cxrgaze_ray.radiograph.decoding import Decoded, Decoder
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.scoring.planning import list_wanted, pin_requested
from cxrgaze_ray.scoring.runs import Request, make_plan
from cxrgaze_ray.storage import open_store

SAMPLE = 6
"""Files that are tried, spread over the archive."""


@dataclass(frozen=True)
class Estimate:
    """What scoring would read, write and take on this machine alone.

    Attributes
    ----------
    images, bytes_in, bytes_out
        Files of the plan, their size, and the result shards to expect.
    sampled, decode_seconds, model_seconds
        Files tried, and medians an image of one core's decoding and of the forward pass on all cores.
    seconds
        Decoding and model share the cores: images x (decode / cores + model).
    """

    images: int
    bytes_in: int
    bytes_out: int
    sampled: int
    decode_seconds: float
    model_seconds: float
    seconds: float
    engine: str


def estimate(
    request: Request, out: str, registry: str, on_listed: Callable[[Manifest], None] = lambda _: None
) -> Estimate:
    """Try a few files of the archive and extrapolate."""
    pin, _ = pin_requested(request, registry)
    plan = make_plan(list_wanted(request, out, Identities, on_listed).table, request.options.limit)
    limit_threads(None)
    predictor = predictor_for(read_bundle(open_store(pin.uri)), request.engine)
    places = np.unique(np.linspace(0, plan.num_rows - 1, SAMPLE).astype(int))
    rows = plan.take(places).to_pylist()
    decoded, decode_seconds = _decode(rows, predictor.info.profile, frontal_only=request.options.view == "frontal")
    model_seconds, row_bytes = _predict(predictor, decoded, cam=request.options.cam)
    per_image = float(np.median(decode_seconds)) / (os.cpu_count() or 1) + model_seconds
    return Estimate(
        images=plan.num_rows,
        bytes_in=pc.sum(plan["size_bytes"]).as_py() or 0,
        bytes_out=round(row_bytes * plan.num_rows),
        sampled=len(rows),
        decode_seconds=float(np.median(decode_seconds)),
        model_seconds=model_seconds,
        seconds=per_image * plan.num_rows,
        engine=predictor.engine.name,
    )


def _decode(rows: list[dict[str, Any]], profile: str, *, frontal_only: bool) -> tuple[list[Decoded], list[float]]:
    decoded, seconds = [], []
    with Decoder(profile, reading=Reading(frontal_only=frontal_only)) as decoder:
        for row in rows:
            started = time.perf_counter()
            try:
                decoded.append(decoder.decode(fetch_listed(row)))
            except RadiographError:
                continue  # a run gives it a row; here only the time of sound files counts
            seconds.append(time.perf_counter() - started)
    # the first one pays for the process
    return decoded, seconds[1:] or seconds or [0.0]


def _predict(predictor: Predictor, decoded: list[Decoded], *, cam: bool) -> tuple[float, float]:
    """Return seconds an image, warmed up, and bytes of result an image."""
    if not decoded:
        return 0.0, 0.0
    images = np.stack([item.pixels for item in decoded])
    predictor.predict(images[:1], cam=cam)
    started = time.perf_counter()
    result = predictor.predict_stored(images, cam=cam)
    seconds = (time.perf_counter() - started) / len(images)
    size = sum(len(png) for maps in (result.saliency, result.cam) if maps is not None for png, _ in maps.pngs())
    return seconds, size / len(images) + 400  # a row's other columns
