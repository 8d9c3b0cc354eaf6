"""The application under more and more clients: images a second, latencies, and how many are told to come back."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrgaze_ray.benchmark.latency import Latency, core_count, host, single_requests
from cxrgaze_ray.cluster.connection import connect

CLIENTS = (1, 32, 128, 400)
"""Clients of the usual table; each posts again once it is answered, or when Retry-After says."""

_IMAGES = 12
_SETTLE_S = 5.0
"""Time before counting, in seconds: the first answers start the decoders, and the first queue fills."""


@dataclass(frozen=True)
class Load:
    """What so many clients got, and images a second that were scored for all of them together."""

    clients: int
    images_per_second: float
    latency: Latency


@dataclass(frozen=True)
class LoadFigures:
    """A row for each number of clients, and what was measured on what."""

    preset: str
    cores: int
    body_bytes: int
    seconds: float
    loads: tuple[Load, ...]


def bench_load(
    preset: str = "tiny",
    clients: Sequence[int] = CLIENTS,
    seconds: float = 20.0,
    say: Callable[[str], None] = lambda _: None,
) -> LoadFigures:
    """Measure on one phantom and an untrained network, in a private cluster."""
    with tempfile.TemporaryDirectory(prefix="cxrgaze-load-") as folder, connect():
        hosted = host(Path(folder), preset, _IMAGES)
        port, body = hosted.port, hosted.dicom
        loads = []
        for number in clients:
            loads.append(_measure(port, body, number, seconds))
            say(f"{number} clients: {loads[-1].images_per_second:.1f} images/s.")
    return LoadFigures(preset, core_count(), len(body), seconds, tuple(loads))


def _measure(port: int, body: bytes, clients: int, seconds: float) -> Load:
    with single_requests(port, body, clients) as log:
        time.sleep(_SETTLE_S)
        log.clear()
        started = time.perf_counter()
        time.sleep(seconds)
        rate, latency = len(log.seconds) / (time.perf_counter() - started), log.latency()
    return Load(clients, rate, latency)
