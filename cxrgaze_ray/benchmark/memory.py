"""Memory of a scoring run by its length: peaks of each role, and of the object store; each length in a fresh process.

``python -m cxrgaze_ray.benchmark.memory IMAGES`` is the measuring process; it prints one JSON line.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.benchmark import workload
from cxrgaze_ray.benchmark.processes import MemoryWatch, measure_apart
from cxrgaze_ray.cluster.connection import ClusterSettings, connect
from cxrgaze_ray.schemas import Status
from cxrgaze_ray.scoring.driver import ScoreSettings, score_archive
from cxrgaze_ray.scoring.pipeline import Pools, chunk_bytes

SIZES = (500, 10_000)
DECODERS = 2


@dataclass(frozen=True)
class RunMemory:
    """One run.

    Attributes
    ----------
    images, seconds
        Scored, and from the first listing to SUCCESS.json.
    peaks
        Private memory in bytes of the largest process of each role, at its largest.
    store_peak, store_bound
        Bytes in the object store at most, and what may lie there: chunks between the stages, calls to the model, and
        a chunk more for each decoder, since Ray Data admits a task before it knows how much comes of it.
    spilled
        Bytes that were written to disk because the object store was full.
    """

    images: int
    seconds: float
    peaks: dict[str, int]
    store_peak: int
    store_bound: int
    spilled: int


def bench_memory(sizes: tuple[int, ...] = SIZES) -> Iterator[RunMemory]:
    """Score so many tiny phantoms with an untrained tiny network, each number apart: see `measure_apart`."""
    for images in sizes:
        yield RunMemory(**measure_apart("-m", "cxrgaze_ray.benchmark.memory", str(images)))


def growth(few: RunMemory, many: RunMemory) -> dict[str, float]:
    """Return how many times as much the longer run took, by role."""
    return {role: many.peaks[role] / peak for role, peak in few.peaks.items() if peak}


def measure(images: int) -> RunMemory:
    """Score so many images, as `cxrgaze score` does, and watch."""
    with tempfile.TemporaryDirectory(prefix="cxrgaze-bench-") as name, connect(ClusterSettings()) as cluster:
        folder = Path(name)
        archive = workload.link_phantoms(folder, images, workload.TINY_ROWS)
        registry = workload.publish_untrained(folder, "tiny")
        request = workload.request_for(archive)
        settings, started = ScoreSettings(decoders=DECODERS, scorers=1), time.perf_counter()
        with MemoryWatch() as watch:
            outcome = score_archive(
                request,
                str(folder / "out"),
                registry,
                lambda: nullcontext(cluster),
                settings=settings,
                identities=Identities,
            )
        assert outcome.success.counts == {Status.SCORED: images}
        pools, chunk = Pools(DECODERS), outcome.run.spec.chunk_rows
        bound = pools.object_bytes(chunk) + pools.call_bytes(chunk) + DECODERS * chunk_bytes(chunk)
        seconds = time.perf_counter() - started
        return RunMemory(images, seconds, watch.peaks, watch.store_peak, bound, watch.spilled)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(int(sys.argv[1])))))
