"""Start and end this machine's node of a cluster that outlives its command: its head, or one more of its nodes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from cxrgaze_ray import __version__
from cxrgaze_ray.cluster.dashboard import Dashboard
from cxrgaze_ray.cluster.interrupts import held
from cxrgaze_ray.cluster.processes import Leader, end, members
from cxrgaze_ray.cluster.ray_internals import DRAINS_S, STAYS_LOCAL
from cxrgaze_ray.cluster.session_folder import SessionFolder, make_session_folder
from cxrgaze_ray.cluster.standing import Place, Standing
from cxrgaze_ray.cluster.token import environment_with, read_token
from cxrgaze_ray.cluster.tracing import tracing_hook
from cxrgaze_ray.config import Settings, Text
from cxrgaze_ray.errors import EnvironmentFault

LOOPBACK = "127.0.0.1"
VERSION_LABEL = "cxrgaze"
"""Label of a node that says which version of this package it has."""

WORKERS_PORTS = range(10_002, 20_000)
"""Ports that `ray start` keeps for workers; it refuses, in many lines, to be given one of them for anything else."""

_START_S = 240.0
_STOP_S = 60.0
_LOOK_S = 0.2
_GRACE_S = 5.0
_JOB_STOP_S = 60
"""Seconds that a job told to end has for it; Ray's own three would kill a run in the middle of its open shards."""

_SCRATCH = "TMPDIR"
"""Variable by which a node's processes are known: it names a folder of the node's own."""

_started: list[subprocess.Popen[bytes]] = []
"""Nodes that this process started, which go on without it: Python would take forgetting them for a mistake."""

_LOG = "failed.log"
_RUNS = ("PENDING", "RUNNING")


class NodeSettings(Settings):
    """This machine's node."""

    join: Text | None = None
    """Address of the cluster that it joins, HEAD:PORT; None starts a cluster."""

    host: Text = LOOPBACK
    """Address at which the cluster's other machines reach this one; on 127.0.0.1 there are no others."""

    port: int = Field(6379, ge=1, le=65_535)
    """Port of the head, which Ray's programs and other nodes connect to."""

    dashboard_port: int = Field(8265, ge=1, le=65_535)
    """Port of the dashboard and job server, on the head."""

    metrics_port: int = Field(9467, ge=1, le=65_535)
    """Port where Prometheus finds this node's metrics."""

    num_cpus: int = Field(4, ge=0, le=10_000)
    """Logical CPUs of the node; 0 leaves all work to others."""

    num_gpus: int | None = Field(None, ge=0, le=1000)
    """GPUs of the node; None takes those that are there."""

    object_store_mib: int = Field(600, ge=76, le=10_000_000)
    """Object store of the node, in MiB."""

    @model_validator(mode="after")
    def _ports_of_its_own(self) -> Self:
        ports = {"port": self.port, "dashboard_port": self.dashboard_port, "metrics_port": self.metrics_port}
        if taken := [name for name, port in ports.items() if port in WORKERS_PORTS]:
            first, last = WORKERS_PORTS[0], WORKERS_PORTS[-1]
            raise ValueError(
                f"{' and '.join(taken)} must not lie in {first} to {last}, which Ray keeps for its workers"
            )
        if len({*ports.values()}) < len(ports):
            raise ValueError(f"{', '.join(ports)} must differ")
        return self

    @property
    def alone(self) -> bool:
        """Whether no other machine can reach this one."""
        return self.host == LOOPBACK and self.join is None

    def standing(self, folder: SessionFolder, token_file: Path, own_token: bool, dashboard: str | None) -> Standing:
        """Return the record of the node, before it is started."""
        return Standing(
            role="worker" if self.join else "head",
            address=self.join or f"{self.host}:{self.port}",
            dashboard=dashboard or f"http://{self.host}:{self.dashboard_port}",
            host=self.host,
            metrics_port=self.metrics_port,
            folder=folder.root,
            token_file=token_file,
            own_token=own_token,
        )

    def command(self, folder: SessionFolder, client_port: int) -> list[str]:
        """Return the command of the node's first process; no word of it is a secret."""
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        words += [f"--address={self.join}"] if self.join else self._of_a_head(client_port)
        words += [] if self.alone else [f"--node-ip-address={self.host}"]
        words += ["--dashboard-agent-listen-port=0", f"--metrics-export-port={self.metrics_port}"]
        words += [f"--temp-dir={folder.ray}", f"--num-cpus={self.num_cpus}", f"--labels={VERSION_LABEL}={__version__}"]
        words += [] if self.num_gpus is None else [f"--num-gpus={self.num_gpus}"]
        return [*words, f"--object-store-memory={self.object_store_mib * 2**20}"]

    def _of_a_head(self, client_port: int) -> list[str]:
        return [
            "--head", f"--port={self.port}", "--include-dashboard=true", f"--dashboard-host={self.host}",
            f"--dashboard-port={self.dashboard_port}", f"--ray-client-server-port={client_port}",
            *([] if (hook := tracing_hook()) is None else [f"--tracing-startup-hook={hook}"]),
        ]  # fmt: skip

    def environment(self, folder: SessionFolder, token_file: Path) -> dict[str, str]:
        """Return the variables of the node's processes, and so of its jobs' entry points."""
        found = environment_with(token_file)
        found[DRAINS_S] = "0"  # there is nowhere to move its work to when it is told to end
        found[STAYS_LOCAL] = "0" if self.alone else "1"
        found[_SCRATCH] = str(folder.scratch)
        found["RAY_JOB_STOP_WAIT_TIME_S"] = str(_JOB_STOP_S)
        found["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), *filter(None, [found.get("PATH")])])
        return found


@dataclass(frozen=True)
class Ended:
    """What `end_node` ended."""

    processes: int
    killed: int
    jobs: tuple[str, ...]


def start_node(
    settings: NodeSettings, token_file: Path, place: Place, *, own_token: bool, client_port: int, dashboard: str | None
) -> Standing:
    """Start this machine's node and wait until it answers; it goes on when this process and its terminal end.

    Parameters
    ----------
    token_file
        File of the cluster's token; `own_token` if it was made for this cluster.
    place
        Where the record of the node is written, before anything runs that might have to be found by it.
    client_port
        Free port for Ray's client server.
    dashboard
        URL of the dashboard of the cluster that is joined.

    Raises
    ------
    EnvironmentFault
        If it does not start; nothing of it is left but its log.
    """
    folder = make_session_folder()
    folder.scratch.mkdir()
    standing = settings.standing(folder, token_file, own_token, dashboard)
    place.write(standing)
    with _undone_on_failure(standing, place, folder):
        with held(), folder.log_file.open("ab") as log:  # half a start could not be found
            process = subprocess.Popen(
                settings.command(folder, client_port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder.root,
                env=settings.environment(folder, token_file),
                start_new_session=True,
            )
            _started.append(process)
            standing = standing.model_copy(update={"leader": Leader.of(process.pid)})
            place.write(standing)
        _wait(process, standing, folder, place)
        standing = standing.model_copy(update={"ready": True})
        place.write(standing)
    return standing


def end_node(standing: Standing, place: Place) -> Ended:
    """End this machine's node and all its processes, and remove what they left; jobs of a head are told to end first.

    A job has a minute to end as it does on SIGTERM: a run commits its open shards.
    """
    jobs = _end_jobs(standing)
    before = _members(standing)
    if standing.leader is not None and standing.lives:
        with suppress(ProcessLookupError):
            os.kill(standing.leader.pid, signal.SIGTERM)
        _until(lambda: not standing.lives, _STOP_S)
    killed = end(_members(standing), _GRACE_S)
    _remove(standing.folder)
    place.remove()
    return Ended(len(before), killed, jobs)


def clear_remains(standing: Standing, place: Place) -> int:
    """End what is left of a node that was killed and remove its folder, but for the token; return how many there were.

    Others may know the token: a cluster that starts again in the same place keeps it.
    """
    remains = _members(standing)
    end(remains, _GRACE_S)
    _remove(standing.folder)
    place.forget()
    return len(remains)


def _members(standing: Standing) -> list[int]:
    return members(standing.folder, _SCRATCH, standing.leader)


def _end_jobs(standing: Standing) -> tuple[str, ...]:
    """Tell a head's jobs to end, and wait for them; a head that does not answer has none that could be told."""
    if standing.role == "worker" or not standing.lives:
        return ()
    try:
        dashboard = Dashboard(standing.dashboard, read_token(standing.token_file))
        named = tuple(one["submission_id"] for one in dashboard.jobs() if one["status"] in _RUNS)
        for name in named:
            dashboard.stop_job(name)
        _until(lambda: not any(one["status"] in _RUNS for one in dashboard.jobs()), _JOB_STOP_S + _GRACE_S)
    except EnvironmentFault:
        return ()
    return named


@contextmanager
def _undone_on_failure(standing: Standing, place: Place, folder: SessionFolder) -> Iterator[None]:
    try:
        yield
    except BaseException:
        known = place.read() or standing
        if folder.log_file.exists():
            shutil.copyfile(folder.log_file, place.folder / _LOG)
        clear_remains(known, place)
        raise


def _wait(process: subprocess.Popen[bytes], standing: Standing, folder: SessionFolder, place: Place) -> None:
    """Wait until the node answers: a head's dashboard lists it, another one's log says so."""
    dashboard = Dashboard(standing.dashboard, read_token(standing.token_file))

    def answers() -> bool:
        if process.poll() is not None:
            raise _failed(standing, folder, place)
        if standing.role == "worker":
            return b"Ray runtime started" in folder.log_file.read_bytes()
        with suppress(EnvironmentFault):
            return any(one["state"] == "ALIVE" for one in dashboard.nodes())
        return False

    if not _until(answers, _START_S):
        raise _failed(standing, folder, place)


def _failed(standing: Standing, folder: SessionFolder, place: Place) -> EnvironmentFault:
    said = folder.log_file.read_text(errors="replace")
    if "uthentication" in said and standing.role == "worker":
        return EnvironmentFault(
            f"The cluster at {standing.address} does not take this token.", "Copy the head's token file here."
        )
    return EnvironmentFault("Ray's node does not start on this machine.", f"Its log is {place.folder / _LOG}.")


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds; return whether it does."""
    last = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > last:
            return False
        time.sleep(_LOOK_S)
    return True


def _remove(folder: Path) -> None:
    """Remove a node's folder, whose last processes may be writing there still."""
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_LOOK_S)
