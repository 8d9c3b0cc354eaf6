"""What this process and its descendants take, by their role: CPU seconds and memory, as Linux's /proc tells them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import ray

from cxrgaze_ray.cluster.processes import stat_of
from cxrgaze_ray.cluster.ray_internals import store_stats
from cxrgaze_ray.errors import EnvironmentFault

DRIVER, DECODING, DECODER, SCORER, MODEL, SERVE, RAY = ROLES = (
    "driver",
    "decoding process",
    "decode actor",
    "score actor",
    "model replica",
    "Serve's own",
    "Ray's own",
)
"""Ray's own: raylet with the object store, GCS, agents, and workers at rest."""

_MARKS = (
    ("cxrgaze_ray.benchmark.noop_decoding", DECODING),
    ("cxrgaze_ray.radiograph.decoding.worker", DECODING),
    ("ray::ServeReplica", MODEL),
    ("ray::Serve", SERVE),
    ("ray::Proxy", SERVE),
    ("Decode", DECODER),
    ("Score", SCORER),
)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One process: what it is here, CPU seconds since its start, and the private memory it holds."""

    pid: int
    role: str
    cpu_seconds: float
    private_bytes: int


def run_apart(*arguments: str) -> str:
    """Run Python in a fresh process, and return what it prints.

    Raises
    ------
    EnvironmentFault
        If the process fails.
    """
    ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if ended.returncode:
        reason = ended.stderr.strip().splitlines()[-1:] or [f"exit {ended.returncode}"]
        raise EnvironmentFault(f"The measuring process ended: {reason[0]}.", "Look at the machine's memory.")
    return ended.stdout


def measure_apart(*arguments: str) -> dict[str, Any]:
    """Run Python in a fresh process, and return the JSON object in the last line that it prints."""
    measured: dict[str, Any] = json.loads(run_apart(*arguments).splitlines()[-1])
    return measured


def own_processes() -> list[Process]:
    """Return this process and its descendants that live."""
    stats, found = dict(_stats()), []
    for pid in _family(os.getpid(), stats):
        with suppress(OSError, KeyError):  # it ended just now
            found.append(Process(pid, _role(pid), stats[pid][1], private_bytes(pid)))
    return found


def descendants(pid: int) -> list[int]:
    """Return the ids of the processes below one that live now."""
    return _family(pid, dict(_stats()))[1:]


def command_of(pid: int) -> str:
    """Return a process's command line, or the title it gave itself; empty if it ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    return ""


def _family(pid: int, stats: Mapping[int, tuple[int, float]]) -> list[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for child, (parent, _) in stats.items():
        children[parent].append(child)
    found = [pid]
    for one in found:
        found += children[one]
    return found


def cpu_since(before: Sequence[Process], now: Sequence[Process]) -> dict[str, float]:
    """Return CPU seconds that went by between two looks, by role; processes that have ended are left out."""
    began = {process.pid: process.cpu_seconds for process in before}
    seconds = dict.fromkeys(ROLES, 0.0)
    for process in now:
        seconds[process.role] += process.cpu_seconds - began.get(process.pid, 0.0)
    return seconds


def _stats() -> Iterator[tuple[int, tuple[int, float]]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := stat_of(int(folder.name))):
            yield int(folder.name), (int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS)


def _role(pid: int) -> str:
    if pid == os.getpid():
        return DRIVER
    command = command_of(pid)
    return next((role for mark, role in _MARKS if mark in command), RAY)


def private_bytes(pid: int) -> int:
    """Return resident memory that is neither a file's nor shared: the object store is not each worker's own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


class MemoryWatch:
    """Notes the most memory that any process of each role held, and the most that lay in the object store.

    Attributes
    ----------
    peaks
        Bytes by role: of the largest process.
    store_peak, spilled
        Bytes in the object store at most, and written out to disk because it was full.
    """

    def __init__(self, every_s: float = 0.25) -> None:
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)
        self.peaks = dict.fromkeys(ROLES, 0)
        self.store_peak = self.spilled = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        for process in own_processes():
            self.peaks[process.role] = max(self.peaks[process.role], process.private_bytes)
        stats = store_stats(ray.get_runtime_context().gcs_address)
        self.store_peak = max(self.store_peak, stats.object_store_bytes_used)
        self.spilled = stats.spilled_bytes_total
