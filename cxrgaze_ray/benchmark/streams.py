"""What a training reads, on its way to a device that only pretends to compute: rate, waiting and memory by rows.

Stores are real and made of links to one shard of generated images, as today's ingest writes them. Each size is measured
in a process of its own: ``python -m cxrgaze_ray.benchmark.streams feed IMAGES RATE`` or ``plan ROWS``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from cxrgaze_ray.benchmark.processes import measure_apart, private_bytes
from cxrgaze_ray.cluster.connection import ClusterSettings, connect
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.radiograph.preprocess import DEFAULT_PROFILE, profile_sha256
from cxrgaze_ray.schemas import CLASSES, HEIGHT, STORE_SHARD, WIDTH
from cxrgaze_ray.shards import ShardReader, ShardStore, SplitSettings, StoreIndex, StoreInfo, StoreRows, index_store
from cxrgaze_ray.shards.store import ShardInfo
from cxrgaze_ray.shards.writing import ShardWriter
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.training.ahead import Ahead
from cxrgaze_ray.training.feed import Feed
from cxrgaze_ray.training.recipes import RECIPES

SIZES = (512, 5120)
ROWS = 300_000
SHARD_ROWS = 64
BATCH = 16

DEVICE_RATE = 50.0
"""Images a second that the pretended device learns from: `full` on two cores learns from one."""


@dataclass(frozen=True)
class Fed:
    """An epoch of the saliency phase of `full`, images and gaze at the network's size.

    Attributes
    ----------
    images, seconds
        Of the epoch with the pretended device.
    waited
        Share of its time that the device waited for batches.
    rate
        Images a second where nothing waits for a device.
    peak_bytes
        Most private memory of the process in either.
    """

    images: int
    seconds: float
    waited: float
    rate: float
    peak_bytes: int


@dataclass(frozen=True)
class Planned:
    """What a training of many rows takes before its first step.

    Attributes
    ----------
    rows, shards
        Size of the store.
    index_seconds
        From a running cluster to an index of all rows, by Ray Data.
    index_bytes
        Size of the index, of which a node holds one.
    first_batch_seconds
        In a worker that has the index: choosing rows, shuffling them, and reading the first batch.
    grown_bytes
        By how much the worker's private memory grew meanwhile.
    """

    rows: int
    shards: int
    index_seconds: float
    index_bytes: int
    first_batch_seconds: float
    grown_bytes: int


def bench_feeding(sizes: tuple[int, ...] = SIZES, rate: float = DEVICE_RATE) -> Iterator[Fed]:
    """Feed a pretended device from stores of so many images, each number apart."""
    for images in sizes:
        yield Fed(**measure_apart("-m", "cxrgaze_ray.benchmark.streams", "feed", str(images), str(rate)))


def bench_planning(rows: int = ROWS) -> Planned:
    """Plan a training of so many rows on a private cluster."""
    return Planned(**measure_apart("-m", "cxrgaze_ray.benchmark.streams", "plan", str(rows)))


def feed(images: int, rate: float) -> Fed:
    """Read an epoch as fast as it goes, and another one at a device's pace."""
    with tempfile.TemporaryDirectory(prefix="cxrgaze-bench-") as folder, _Peak() as peak:
        dealt = _feed_of(index_store(_store(Path(folder), images), ["train"]))
        size, started = PRESETS["full"].input_size, time.perf_counter()
        for _ in dealt.shuffled(0, BATCH, size):
            pass
        free = images / (time.perf_counter() - started)
        before, started = dealt.waited_s, time.perf_counter()
        for batch in dealt.shuffled(1, BATCH, size):
            time.sleep(len(batch.label_B) / rate)
        seconds = time.perf_counter() - started
        return Fed(images, seconds, (dealt.waited_s - before) / seconds, free, peak.look())


def plan(rows: int) -> Planned:
    """Index a store on a private cluster, and begin to read it as a worker does."""
    import ray

    with tempfile.TemporaryDirectory(prefix="cxrgaze-bench-") as folder, connect(ClusterSettings()):
        store, started = _store(Path(folder), rows), time.perf_counter()
        handed = ray.put(index_store(store, ["train"]))
        index_seconds = time.perf_counter() - started
        before, started = private_bytes(os.getpid()), time.perf_counter()
        index: StoreIndex = ray.get(handed)
        next(_feed_of(index).shuffled(0, BATCH, PRESETS["full"].input_size))
        return Planned(
            rows=rows,
            shards=len(index.shards),
            index_seconds=index_seconds,
            index_bytes=sum(table.nbytes for table in index.rows.values()),
            first_batch_seconds=time.perf_counter() - started,
            grown_bytes=private_bytes(os.getpid()) - before,
        )


def _feed_of(index: StoreIndex) -> Feed:
    rows = StoreRows(index, "train", ShardReader())
    return Feed(rows, ahead=Ahead()).select(RECIPES["gazenet"].stages["saliency"])


def _store(folder: Path, rows: int) -> ShardStore:
    """Write a finished store whose shards are links to one, as far as they are whole."""
    store = LocalStore(str(folder))
    for name, count in (("whole", SHARD_ROWS), ("rest", rows % SHARD_ROWS)):
        store.put(name, _shard(count))
    shards = []
    (folder / "shards").mkdir()
    for number, first in enumerate(range(0, rows, SHARD_ROWS)):
        count = min(SHARD_ROWS, rows - first)
        shards.append(ShardInfo(name=f"shards/shard-{number:05d}.parquet", rows=count, sha256=""))
        (folder / shards[-1].name).hardlink_to(folder / ("whole" if count == SHARD_ROWS else "rest"))
    profile = profile_sha256(DEFAULT_PROFILE)
    counts = {"images": rows, "split_train": rows}
    info = StoreInfo(
        profile=DEFAULT_PROFILE, profile_sha256=profile, manifest_sha256="", split=SplitSettings(), shards=shards,
        counts=counts,
    )  # fmt: skip
    return ShardStore(store, info)


def _shard(rows: int) -> bytes:
    """Return a shard of generated images: noise as fine as a film's, so that it compresses as little."""
    rng, writer = np.random.default_rng(0), ShardWriter()
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    for number in range(rows):
        spot = np.exp(-(((y - 60 * (number % 9 + 1)) / 90) ** 2) - ((x - 256) / 90) ** 2)
        image = 20_000 + 30_000 * spot + 4000 * rng.random((HEIGHT, WIDTH), np.float32)
        row = {
            "image_id": f"{number:064x}", "subject_id": f"{number:064x}", "study_id": f"{number:064x}",
            "split": "train", "label": number % len(CLASSES), "image": image.astype("<u2").tobytes(),
            "gaze": np.rint(65535 * spot).astype("<u2").tobytes(), "gaze_peak": 1e-5,
        }  # fmt: skip
        writer.add(pa.Table.from_pylist([row], schema=STORE_SHARD))
    return writer.finish()


class _Peak:
    """Notes the most private memory that this process holds: pages of files can be let go of, and are not counted."""

    def __init__(self, every_s: float = 0.05) -> None:
        self._every_s, self._most, self._stop = every_s, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> int:
        """Return the most bytes so far."""
        self._most = max(self._most, private_bytes(os.getpid()))
        return self._most

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self.look()


if __name__ == "__main__":
    wanted = sys.argv[2:]
    measured = feed(int(wanted[0]), float(wanted[1])) if sys.argv[1] == "feed" else plan(int(wanted[0]))
    print(json.dumps(asdict(measured)))
