"""Score archives in the session's cluster, and read what came of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from cxrgaze_ray.scoring.driver import Outcome, ScoreSettings, score_archive
from cxrgaze_ray.scoring.gather import Progress
from cxrgaze_ray.scoring.runs import Request, Run, ScoreOptions
from tests.integration.conftest import same_cluster


def request(archive: str, **options: Any) -> Request:
    return Request(archive=archive, model="cxrgaze@champion", engine="float32", options=ScoreOptions(**options))


def score(asked: str | Request, out: str, registry: str, *, decoders: int = 2, **options: Any) -> Outcome:
    wanted = asked if isinstance(asked, Request) else request(asked)
    connect = options.pop("connect", same_cluster)
    return score_archive(wanted, out, registry, connect, settings=ScoreSettings(decoders=decoders), **options)


def rows(run: Run) -> pa.Table:
    """Return all rows, but for the time they were made at."""
    return pa.concat_tables(run.read_shard(shard).drop_columns(["scored_at"]) for shard in range(run.spec.shards))


def stop_when(done: int, stop: threading.Event) -> Callable[[Progress], None]:
    def watch(progress: Progress) -> None:
        if progress.done >= done:
            stop.set()

    return watch


def start_driver(
    archive: str, out: str, registry: str, address: str | None, **environment: str
) -> subprocess.Popen[str]:
    """Start `cxrgaze score` in a process of its own, on the session's cluster or, without address, on a private one."""
    command = [
        sys.executable, "-m", "cxrgaze_ray", "score", archive, "--out", out, "--registry", registry,
        "--engine", "float32", *(["--address", address] if address else []),
    ]  # fmt: skip
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,  # so that a test can signal its whole group
    )


def kill_driver(driver: subprocess.Popen[str]) -> None:
    """Kill a driver as a machine does that goes dark."""
    driver.kill()
    driver.communicate()


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[Any], seconds: float = 120) -> None:
    """Wait for something to happen while a process runs."""
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, "the command ended before it was disturbed"
        assert time.monotonic() < end, "nothing was committed"
        time.sleep(0.1)
