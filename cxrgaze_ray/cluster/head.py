"""The head of a private cluster that takes jobs, as a process of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxrgaze_ray.cluster.ports import free_ports
from cxrgaze_ray.cluster.ray_internals import DRAINS_S, METRICS_PORTS
from cxrgaze_ray.cluster.session_folder import SessionFolder
from cxrgaze_ray.cluster.tracing import tracing_hook

_START_S = 240.0
"""Longest wait for a head node with its dashboard, in seconds: it starts a dozen Python processes."""

_STOP_S = 60.0
_PR_SET_PDEATHSIG = 1
_ADDRESS_FILE = "ray_current_cluster"
"""Ray's own file: with port 0 only the head knows where it listens, and its output is meant for people."""


@contextmanager
def head_node(folder: SessionFolder, cpus: int, store_bytes: int, metrics_port: int | None = None) -> Iterator[str]:
    """Start a head node with a job server on free ports and yield its address; it ends with the block or this process.

    `ray.init` would do, but for one port: there the job agent listens on 52365 only, and where another cluster of
    this machine has it, jobs can't be submitted.

    Raises
    ------
    ConnectionError
        If it does not start; its output is in the folder's log file.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--port=0", "--dashboard-port=0", "--dashboard-agent-listen-port=0", "--include-dashboard=true"]
    command += [f"--temp-dir={folder.ray}", f"--num-cpus={cpus}", f"--object-store-memory={store_bytes}"]
    command += [] if metrics_port is None else [f"--metrics-export-port={metrics_port}"]
    command += [] if (hook := tracing_hook()) is None else [f"--tracing-startup-hook={hook}"]
    ports = {name: str(port) for name, port in zip(METRICS_PORTS, free_ports(len(METRICS_PORTS)), strict=True)}
    # when told to end, a head would wait half a minute for its work to move to other nodes: there are none, and whoever
    # stops us (Kubernetes) may kill us after that time
    environment = {**ports, **os.environ, DRAINS_S: "0"}
    with folder.log_file.open("ab") as log:
        # in a session of its own, so that Ctrl-C reaches this process only
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            preexec_fn=_end_with_us,
        )
    try:
        yield _address(process, folder.ray / _ADDRESS_FILE)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_us() -> None:
    # in the child, before it becomes the head; the kernel signals it when the thread that started it ends, even killed
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _address(process: subprocess.Popen[bytes], file: Path) -> str:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        if file.exists() and (address := file.read_text().strip()):
            return address
        time.sleep(0.1)
    raise ConnectionError("the head node did not start")
