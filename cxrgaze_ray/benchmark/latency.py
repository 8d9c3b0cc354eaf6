"""Single HTTP requests alone and beside a batch job on the same application, and what they cost that job."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median

import numpy as np

from cxrgaze_ray.benchmark.samples import SMALL, jpeg_phantom
from cxrgaze_ray.benchmark.workload import publish_untrained
from cxrgaze_ray.cluster.connection import Cluster, connect
from cxrgaze_ray.cluster.ports import free_port
from cxrgaze_ray.errors import ServingUnavailable
from cxrgaze_ray.phantoms import make_archive
from cxrgaze_ray.scoring.driver import score_archive
from cxrgaze_ray.scoring.gather import Progress
from cxrgaze_ray.scoring.runs import Request
from cxrgaze_ray.serving import ServeFile, start_http, wait_ready
from cxrgaze_ray.storage import LocalStore

_MANY = 100
"""Requests of which one in a hundred can be told."""

HEIGHTS = (1100, 1400)
"""Rows of the phantoms, in pixels."""


@dataclass(frozen=True)
class Latency:
    """Request to answer, in milliseconds, of the requests that were answered 200.

    p99 is None of fewer than a hundred requests: it would be the slowest of them.
    """

    requests: int
    refused: int
    p50_ms: float
    p95_ms: float
    p99_ms: float | None

    def cells(self) -> list[str]:
        """Return the percentiles for a table."""
        return ["-" if ms is None else f"{ms:.0f}" for ms in (self.p50_ms, self.p95_ms, self.p99_ms)]


@dataclass(frozen=True)
class Rate:
    """Images a second: the median of the rounds, the slowest and the fastest."""

    median: float
    slowest: float
    fastest: float

    @classmethod
    def of(cls, rates: list[float]) -> Rate:
        """Sum up rounds."""
        return cls(median(rates), min(rates), max(rates))

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.slowest:.1f} to {self.fastest:.1f})"


@dataclass(frozen=True)
class ServingFigures:
    """One measurement.

    Attributes
    ----------
    preset, engine, cores, clients, images
        What was measured on what: each client posts again as soon as it is answered.
    body
        What was posted.
    ready_seconds
        From the start of the service on a cluster that runs to its first readiness, model and all.
    alone, beside_batch
        Single requests on the idle application, and while it scores the archive.
    batch_alone, batch_beside
        Images a second of the archive, from its first chunk to its last, without and with the single requests.
    """

    preset: str
    engine: str
    cores: int
    clients: int
    images: int
    body: str
    ready_seconds: float
    alone: Latency
    beside_batch: Latency
    batch_alone: Rate
    batch_beside: Rate


def bench_serve(
    preset: str = "tiny",
    images: int = 256,
    seconds: float = 20.0,
    clients: int = 1,
    rounds: int = 3,
    say: Callable[[str], None] = lambda _: None,
    *,
    jpeg: bool = False,
) -> ServingFigures:
    """Measure on phantoms and an untrained network, in a private cluster; post a DICOM phantom, or a small JPEG."""
    with tempfile.TemporaryDirectory(prefix="cxrgaze-serve-") as folder, connect() as cluster:
        hosted = host(Path(folder), preset, images)
        port, body = hosted.port, jpeg_phantom() if jpeg else hosted.dicom
        say(f"Ready after {hosted.ready_seconds:.1f} s.")
        ask = partial(single_requests, port, body, clients)
        job = partial(_Job, Path(folder), cluster)
        with ask() as alone:
            time.sleep(min(5.0, seconds / 4))  # the first answers start the decoders, and are not counted
            alone.clear()
            time.sleep(seconds)
        say(f"Single requests alone: {alone.latency().p50_ms:.0f} ms.")
        # Workers of the first job start slowly, and decoding gets ahead of the model: its rate is not the job's.
        job("first").run(lambda: None)
        batch_alone, batch_beside, together = [], [], RequestLog()
        for turn in range(rounds):  # interleaved: what runs side by side shares the machine's moods
            batch_alone.append(job(f"alone-{turn}").run(lambda: None).rate)
            with ask() as beside:
                last = job(f"beside-{turn}").run(beside.clear)
                together.extend(beside)
            batch_beside.append(last.rate)
            say(f"Batch job alone {batch_alone[-1]:.1f} images/s, beside single requests {batch_beside[-1]:.1f}.")
    posted = f"JPEG of {SMALL}x{SMALL}" if jpeg else "DICOM phantom"
    setting = (preset, last.engine, core_count(), clients, images, posted, hosted.ready_seconds)
    return ServingFigures(*setting, alone.latency(), together.latency(), Rate.of(batch_alone), Rate.of(batch_beside))


def core_count() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Hosted:
    """A running service: its port, a radiograph to post there, and how long it took to be ready."""

    port: int
    dicom: bytes
    ready_seconds: float


def plain_file(port: int, registry: str) -> ServeFile:
    """Return the settings of a service on a port that is as `cxrgaze serve` starts it."""
    return ServeFile().with_arguments(port=port, registry=registry)


def host(folder: Path, preset: str, images: int, settings: Callable[[int, str], ServeFile] = plain_file) -> Hosted:
    """Draw an archive, publish a network, and host it; the settings are made of a free port and the registry."""
    make_archive(LocalStore(str(folder / "archive")), images=images, seed=0, height=HEIGHTS)
    file = settings(free_port(), publish_untrained(folder, preset))
    began = time.perf_counter()
    start_http(file)
    wait_ready(file)
    ready_seconds = time.perf_counter() - began
    body = next(path for path in sorted((folder / "archive").rglob("*.dcm"))).read_bytes()
    return Hosted(file.http_options.port, body, ready_seconds)


@dataclass
class _Job:
    """A batch job on the running application, timed from its first chunk to its last; of one chunk, from its start."""

    folder: Path
    cluster: Cluster
    name: str
    engine: str = ""
    seen: list[tuple[float, int]] = field(default_factory=list)

    def run(self, begun: Callable[[], None]) -> _Job:
        """Score the archive; call `begun` when the first chunk is back."""

        def watch(progress: Progress) -> None:
            if progress.received:
                if len(self.seen) == 1:
                    begun()
                self.seen.append((time.perf_counter(), progress.received))

        self.seen = [(time.perf_counter(), 0)]
        request = Request(archive=str(self.folder / "archive"), model="cxrgaze@champion", engine="auto")
        out, registry = str(self.folder / self.name), str(self.folder / "registry")
        outcome = score_archive(request, out, registry, lambda: nullcontext(self.cluster), on_progress=watch)
        self.engine = outcome.run.spec.engine
        return self

    @property
    def rate(self) -> float:
        """Images a second."""
        first, (end, after) = self.seen[:2][len(self.seen) > 2], self.seen[-1]
        return (after - first[1]) / (end - first[0])


@dataclass
class RequestLog:
    """What the clients got: seconds of the requests that were answered 200, and how many were not."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0

    def add(self, seconds: float, status: int) -> None:
        if status == 200:
            self.seconds.append(seconds)
        else:
            self.refused += 1

    def extend(self, others: RequestLog) -> None:
        self.seconds += others.seconds
        self.refused += others.refused

    def clear(self) -> None:
        self.seconds, self.refused = [], 0

    def latency(self) -> Latency:
        if not self.seconds:
            raise ServingUnavailable("No request was answered.", "Give it more --seconds.")
        p50, p95, p99 = 1000 * np.percentile(self.seconds, (50, 95, 99))
        many = len(self.seconds) >= _MANY
        return Latency(len(self.seconds), self.refused, float(p50), float(p95), float(p99) if many else None)


@contextmanager
def single_requests(port: int, body: bytes, clients: int) -> Iterator[RequestLog]:
    """Post a body again and again until the block ends."""
    log, stop = RequestLog(), threading.Event()
    threads = [threading.Thread(target=_post, args=(port, body, log, stop)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield log
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _post(port: int, body: bytes, log: RequestLog, stop: threading.Event) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    while not stop.is_set():
        started, again_s = time.perf_counter(), 0.0
        try:
            connection.request("POST", "/v1/predict", body)
            response = connection.getresponse()
            response.read()
            status, again_s = response.status, float(response.headers.get("Retry-After", 0))
        except (OSError, HTTPException):
            connection.close()
            status = 0
        log.add(time.perf_counter() - started, status)
        stop.wait(again_s)
    connection.close()
