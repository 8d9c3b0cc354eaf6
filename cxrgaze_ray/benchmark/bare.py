"""Decode or model alone, in a fresh process without Ray: ``python -m cxrgaze_ray.benchmark.bare decode|model ...``.

A process of its own, so that nothing else's CPU time is counted in. Prints one JSON line: seconds and core-seconds an
image, its start-up and the first image left out.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.intake import Intake
from cxrgaze_ray.archive.manifest import list_archive
from cxrgaze_ray.benchmark.processes import measure_apart, own_processes
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.scoring.runs.contract import chunk_rows_on


@dataclass(frozen=True)
class Bare:
    """Wall-clock seconds and core-seconds (of the process and its children) an image."""

    seconds: float
    core_seconds: float


def measure_bare(*arguments: str) -> Bare:
    """Measure in a process of its own, see `measure_apart`; the arguments are those of `main`."""
    return Bare(**measure_apart("-m", "cxrgaze_ray.benchmark.bare", *arguments))


def bare_decode(archive: str, images: int) -> Bare:
    """Fetch and decode in turn, on one core, through the isolated decoder; and encode a saliency map each.

    The map's PNG is counted here, because it is CPU work of every row whatever scores it.
    """
    from cxrgaze_ray.benchmark.stand_ins import canned_density

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = list_archive(archive, Identities).table.to_pylist()
    spread = [rows[place] for place in np.linspace(0, len(rows) - 1, images).astype(int)]
    density = canned_density()
    with Intake("cxrgaze-v1", Reading(), Identities()) as intake:

        def work() -> None:
            for row in spread:
                intake.take(row)
                saliency.encode(density)

        intake.take(spread[0])
        return _measured(work, images)


def bare_model(registry: str, images: int, threads: int, engine: str) -> Bare:
    """Score so many images with cxrgaze@champion on an engine, a chunk at a time, to maps as they are stored."""
    from cxrgaze_ray.models.bundle import golden_image, read_bundle
    from cxrgaze_ray.models.engines.engine import Engine
    from cxrgaze_ray.models.predictor import Predictor, limit_threads
    from cxrgaze_ray.registry.versions import pin_model
    from cxrgaze_ray.storage import open_store

    limit_threads(threads)
    bundle = read_bundle(open_store(pin_model(registry, "cxrgaze@champion").uri))
    predictor, rows = Predictor.from_bundle(bundle, Engine.parse(engine)), chunk_rows_on(engine)
    chunk = np.stack([golden_image(seed) for seed in range(rows)])
    predictor.predict_stored(chunk[: predictor.batch])
    sizes = [rows] * (images // rows) + ([images % rows] if images % rows else [])
    return _measured(lambda: [predictor.predict_stored(chunk[:size]) for size in sizes], images)


def _measured(work: Callable[[], object], images: int) -> Bare:
    cores, started = _core_seconds(), time.perf_counter()
    work()
    return Bare((time.perf_counter() - started) / images, (_core_seconds() - cores) / images)


def _core_seconds() -> float:
    return sum(process.cpu_seconds for process in own_processes())


def main(arguments: list[str]) -> None:
    """Measure ``decode ARCHIVE IMAGES`` or ``model REGISTRY IMAGES THREADS ENGINE``."""
    kind, uri, images, *rest = arguments
    found = bare_decode(uri, int(images)) if kind == "decode" else bare_model(uri, int(images), int(rest[0]), rest[1])
    print(json.dumps(vars(found)))


if __name__ == "__main__":
    main(sys.argv[1:])
