"""A service that a test starts as its users do, by `cxrgaze serve` with a file of settings."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from cxrgaze_ray.config.serve_file import ServeFile
from tests.prometheus import running

CXRGAZE = (sys.executable, "-m", "cxrgaze_ray")

_READY_S = 600.0


@dataclass(frozen=True)
class Started:
    """A command that runs, and the file of what it says."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait_for(self, true: Callable[[], object], what: str, seconds: float = _READY_S) -> None:
        """Wait for something while the command runs; AssertionError with its words if that never comes."""
        end = time.monotonic() + seconds
        while not true():
            assert self.process.poll() is None, f"{what}: {self.log.read_text()}"
            assert time.monotonic() < end, f"{what}: {self.log.read_text()}"
            time.sleep(0.2)


@contextmanager
def started(log: Path, *arguments: str) -> Iterator[Started]:
    """Run a command of ours while the block runs."""
    with running([*CXRGAZE, *arguments], log) as process:
        yield Started(process, log)


@contextmanager
def served(folder: Path, registry: str, port: int, *arguments: str) -> Iterator[Started]:
    """Serve a registry's champion while the block runs, on the engine that is quickest to start."""
    file = folder / "serve.yaml"
    data = ServeFile().with_arguments(port=port, registry=registry, engine="float32", follow_every_s=1).model_dump()
    file.write_text(yaml.safe_dump(data))
    with started(folder / "serve.log", "serve", "--config", str(file), *arguments) as service:
        service.wait_for(lambda: answers(f"http://127.0.0.1:{port}/readyz"), "nothing is served")
        yield service


def answers(url: str) -> bool:
    """Say whether something answers 200 there."""
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
