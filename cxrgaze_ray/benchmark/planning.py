"""A whole archive's run with nothing to compute: what planning, scheduling and committing take of one driver.

All shards go through the real pipeline, the real gatherer and real commits. Decoding gives rows without pixels, the
model answers at once, and maps are noise of a given size.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from ray import serve

from cxrgaze_ray.archive.manifest import Manifest
from cxrgaze_ray.benchmark import workload
from cxrgaze_ray.benchmark.processes import DECODER, DRIVER, MemoryWatch
from cxrgaze_ray.benchmark.stand_ins import MaplessModel, SimulatedDecode, score_simulated
from cxrgaze_ray.cluster.connection import ClusterSettings, connect
from cxrgaze_ray.errors import StoreNotFound
from cxrgaze_ray.schemas import MANIFEST
from cxrgaze_ray.scoring.gather import Progress
from cxrgaze_ray.scoring.pipeline import Pools
from cxrgaze_ray.scoring.runs import Run
from cxrgaze_ray.storage import open_store

ROWS = 377_110
"""Images of MIMIC-CXR."""

MAP_BYTES = 10_000
"""Of a real map's PNG."""

GPU_RATE = 400.0
"""Images a second that one GPU is taken to score."""

_APPLICATION = "bench-planning"
_LOOK_S = 0.25


@dataclass(frozen=True)
class Planning:
    """What one driver took.

    Attributes
    ----------
    rows, shards, chunks
        Size of the run.
    plan_seconds
        Making up the manifest, hashing it, cutting the plan, writing it and run.json.
    work_seconds
        From the first actor's start to the last commit.
    finish_seconds
        Audit, summaries and SUCCESS.json.
    driver_core_seconds
        CPU time of the driver's process for all rows, all threads, by what they took from the first chunk to the last.
    driver_bytes
        Most private memory of the driver, by what it did.
    decoder_bytes
        Most private memory of a decode actor, which holds the plan.
    committed_bytes
        Size of the shard files.
    open_shards
        Shards that the driver held at most, rows of which were still to come.
    spilled
        Bytes that the object store wrote to disk.
    """

    rows: int
    shards: int
    chunks: int
    plan_seconds: float
    work_seconds: float
    finish_seconds: float
    driver_core_seconds: float
    driver_bytes: Mapping[str, int]
    decoder_bytes: int
    committed_bytes: int
    open_shards: int
    spilled: int

    @property
    def images_per_second(self) -> float:
        """Rate of the whole simulation on this machine: the driver keeps up with at least so many."""
        return self.rows / self.work_seconds

    @property
    def chunk_seconds(self) -> float:
        """Wall-clock seconds a chunk."""
        return self.work_seconds / self.chunks

    @property
    def driver_limit(self) -> float:
        """Images a second at which the driver's process would fill one core, which its threads share."""
        return self.rows / self.driver_core_seconds

    @property
    def gpus(self) -> float:
        """GPUs of `GPU_RATE` that one driver has enough time for."""
        return self.driver_limit / GPU_RATE


def bench_planning(
    rows: int = ROWS,
    out: str | None = None,
    map_bytes: int = MAP_BYTES,
    say: Callable[[str], None] = lambda _: None,
    *,
    engine: str = workload.ENGINE,
) -> Planning:
    """Plan, score and finish a simulated run, and delete it.

    Parameters
    ----------
    rows
        Images of the archive that is not there.
    out
        URI of the run's parent; None takes a temporary folder, of about rows x map_bytes.
    engine
        Name of the engine that the run is planned on, which settles the size of its chunks; nothing is computed.
    """
    with tempfile.TemporaryDirectory(prefix="cxrgaze-bench-") as name, _cluster():
        registry = workload.publish_untrained(Path(name), "tiny")
        parent = open_store(out or str(Path(name) / "out")).child(f"bench-planning-{time.time_ns()}")
        try:
            return _measure(rows, parent.uri, registry, map_bytes, say, engine)
        finally:
            with suppress(StoreNotFound):  # it ended before it was planned
                for info in list(parent.list()):
                    parent.delete(info.key)


@contextmanager
def _cluster() -> Iterator[None]:
    with connect(ClusterSettings(num_cpus=8)):
        serve.start(proxy_location="Disabled")
        serve.run(MaplessModel.bind(), name=_APPLICATION, route_prefix=None)  # type: ignore[attr-defined]
        yield


def _measure(rows: int, out: str, registry: str, map_bytes: int, say: Callable[[str], None], engine: str) -> Planning:
    started = time.perf_counter()
    with MemoryWatch(_LOOK_S) as planning:
        run = workload.plan_run(simulated_manifest(rows), out, registry, engine=engine)
    planned = time.perf_counter()
    say(f"Planned {run.spec.rows} rows in {planned - started:.1f} s.")
    with MemoryWatch(2.0) as scoring:
        standing = _work(run, map_bytes, say)
        worked = time.perf_counter()
    with MemoryWatch(_LOOK_S) as finishing:
        run.finish(worked - planned, float(run.spec.rows), datetime.now(UTC).isoformat(timespec="seconds"))
        finished = time.perf_counter()
    return Planning(
        rows=run.spec.rows,
        shards=run.spec.shards,
        chunks=-(-run.spec.rows // run.spec.chunk_rows),
        plan_seconds=planned - started,
        work_seconds=worked - planned,
        finish_seconds=finished - worked,
        driver_core_seconds=standing.cores_a_row * run.spec.rows,
        driver_bytes={
            name: watch.peaks[DRIVER]
            for name, watch in {"planning": planning, "scoring": scoring, "finishing": finishing}.items()
        },
        decoder_bytes=scoring.peaks[DECODER],
        committed_bytes=sum(info.size_bytes for info in run.store.list("results/")),
        open_shards=standing.most_open,
        spilled=finishing.spilled,
    )


class _Standing:
    """Notes a run's progress: open shards at most, and what the driver takes for a row once all actors work."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._told = say, time.perf_counter()
        self._first: tuple[int, float] | None = None
        self._last = (0, 0.0)
        self.most_open = 0

    def __call__(self, progress: Progress) -> None:
        self.most_open = max(self.most_open, progress.open_shards)
        if progress.received:
            self._last = (progress.received, _driver_cores())
            self._first = self._first or self._last
        if time.perf_counter() - self._told > 10:
            self._told = time.perf_counter()
            self._say(f"{progress.received} of {progress.total} rows, {progress.images_per_second:.0f} a second.")

    @property
    def cores_a_row(self) -> float:
        rows, seconds = (last - first for last, first in zip(self._last, self._first or self._last, strict=True))
        return seconds / rows if rows else 0.0


def _work(run: Run, map_bytes: int, say: Callable[[str], None]) -> _Standing:
    standing = _Standing(say)
    pools = Pools(2, decode=SimulatedDecode, score=score_simulated(map_bytes))
    workload.gather(run, _APPLICATION, pools, standing)
    return standing


def _driver_cores() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def simulated_manifest(rows: int) -> Manifest:
    """Return the manifest of an archive that is not there, as large as MIMIC-CXR's is for so many images."""
    number = np.arange(rows)
    image = pa.array(
        [f"{one:08x}-{one * 2654435761 % 2**32:08x}-0a1b2c3d-4e5f6a7b-{one:08x}" for one in number.tolist()]
    )
    subject = [f"{10_000_000 + one // 6}" for one in number.tolist()]
    study = [f"{50_000_000 + one // 2}" for one in number.tolist()]
    known = {
        "image_id": image,
        "subject_id": pa.array(subject),
        "study_id": pa.array(study),
        "repeated_id": pa.array(np.zeros(rows, bool)),
        "uri": pa.array([f"/simulated/files/p{a}/s{b}/{c}.dcm" for a, b, c in zip(subject, study, image, strict=True)]),
        "size_bytes": pa.array(np.full(rows, 15_000_000)),
        "etag": pa.array([f"{one:032x}" for one in number.tolist()]),
        "format": pa.array(["dicom"] * rows),
        "view_source": pa.array(["unknown"] * rows),
    }
    columns = [known.get(field.name, pa.nulls(rows)).cast(field.type) for field in MANIFEST]
    return Manifest("/simulated", "mimic", pa.Table.from_arrays(columns, schema=MANIFEST))
