"""Start or join a Ray cluster, and keep its log noise off the terminal."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pydantic import Field

from cxrgaze_ray.cluster.address_space import check_address_space
from cxrgaze_ray.cluster.gpus import await_gpus
from cxrgaze_ray.cluster.head import head_node
from cxrgaze_ray.cluster.interrupts import held
from cxrgaze_ray.cluster.ports import claimed
from cxrgaze_ray.cluster.ray_internals import in_groups_of_their_own, keeping_sigterm, on_loopback
from cxrgaze_ray.cluster.session_folder import SessionFolder, make_session_folder
from cxrgaze_ray.cluster.standing import Place
from cxrgaze_ray.cluster.token import is_given, make_up_token, use_file
from cxrgaze_ray.cluster.tracing import tracing_hook
from cxrgaze_ray.config import Settings, Text
from cxrgaze_ray.errors import ConfigError, CxrgazeError, EnvironmentFault, Interrupted, UserError

Connect = Callable[[], AbstractContextManager[Any]]
"""Joins a cluster while a block runs. Code that needs one takes this, and enters it once all else is checked."""

PROXY_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
PROXY_MIDDLEWARES = "cxrgaze_ray.http.proxy:middlewares"
"""Value that variable must have in the environment of a cluster's nodes before Ray starts there: see `http.proxy`."""

_STORE_MIB = 600
_GPUS = Path("/proc/driver/nvidia/gpus")
_KNOCK_S = 10.0
"""Longest time that a running cluster may take to accept a connection."""


class ClusterSettings(Settings):
    """The cluster to work on."""

    address: Text | None = None
    """Address of a running cluster; None starts a private one on this machine."""

    num_cpus: int | None = Field(None, ge=1, le=10_000)
    """Logical CPUs of a private cluster; None takes the cores, but at least 4: with fewer, pools starve reads."""

    object_store_mib: int | None = Field(None, ge=76, le=10_000_000)
    """Object store of a private cluster, in MiB; None takes what `store_mib` says."""

    jobs: bool = False
    """Whether a private cluster takes jobs: Ray's dashboard then listens on this machine, with the cluster's token.

    That takes about a minute to start on two cores."""

    metrics_port: int | None = Field(None, ge=1, le=65_535)
    """Port where a private cluster shows its metrics to Prometheus; None takes a free one."""

    gpus: int | None = Field(None, ge=1, le=10_000)
    """GPUs that work waits for before it begins, so that an autoscaler can bring them; None takes those that are there
    at that moment, and CPUs if there are none."""

    gpus_wait_s: float = Field(900.0, ge=0, le=86_400)
    """Longest wait for them in seconds; a private cluster has those of this machine, and is not waited for."""

    @property
    def joined(self) -> str | None:
        """Address of the running cluster that is joined, this one or RAY_ADDRESS; None for a private one."""
        return self.address or os.environ.get("RAY_ADDRESS")

    @property
    def cpus(self) -> int:
        """Logical CPUs of a private cluster."""
        return self.num_cpus or max(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Cluster:
    """A connection: its address, whether it is ours to stop, and the folder of the logs; None if they are another's."""

    address: str
    private: bool
    logs: Path | None

    def cpus(self) -> int:
        """Logical CPUs of the whole cluster."""
        return int(_resources().get("CPU", 1))

    def free_cpus(self) -> int:
        """Logical CPUs that nobody holds just now."""
        import ray

        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        return int(free.get("CPU", 0))

    def gpus(self) -> int:
        """GPUs of the whole cluster."""
        return int(_resources().get("GPU", 0))


def set_ray_environment() -> frozenset[str]:
    """Set the variables that Ray and torch read on import: token authentication, and no usage statistics sent to Ray.

    Does nothing once Ray is imported: it has read them by then, and setting one would only confuse its processes.
    Returns the names of those that nobody had set.
    """
    if "ray" in sys.modules:
        return frozenset()
    before = frozenset(os.environ)
    if cache := os.environ.get("CXRGAZE_CACHE"):  # workers have another folder, and perhaps another home
        os.environ["CXRGAZE_CACHE"] = str(Path(cache).expanduser().absolute())
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault(PROXY_VARIABLE, PROXY_MIDDLEWARES)
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "20")  # three times; else a busy machine has 15 s
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.gettempdir())  # else torchvision leaves a folder there
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # a training's report() waits for it
    given = {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if not given and not Path("~/.ray/auth_token").expanduser().exists():
        make_up_token()
    return frozenset(os.environ) - before


def _resources() -> dict[str, float]:
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


@contextmanager
def connect(settings: ClusterSettings | None = None, *, quiet: bool = True) -> Iterator[Cluster]:
    """Join the cluster this process is on already, or the one at the address, or start a private one.

    With `quiet`, this process's stdout and stderr go to the log file meanwhile. A private cluster listens on this
    machine only, with a fresh token, and stops at the end. Logs are removed, unless the environment or a bug ended
    the work: then the error names them.

    Raises
    ------
    EnvironmentFault
        If the cluster at the address does not answer, or a private one does not start.
    ConfigError
        If a setting is for a private cluster only, or another program has the port of the metrics.
    """
    settings = settings or ClusterSettings()
    address = settings.joined
    if address is not None and settings.num_cpus is not None:
        raise ConfigError("num_cpus is for a private cluster.", "Leave it out, or leave out the address.")
    if address is not None and settings.metrics_port is not None:
        raise ConfigError(
            "--metrics-port is for a private cluster: a running one shows its metrics on a port of its own.",
            "Leave it out, or leave out --address and RAY_ADDRESS.",
        )
    check_address_space()
    set_ray_environment()
    _use_token_of_here(address)
    import ray

    if ray.is_initialized():
        yield Cluster(ray.get_runtime_context().gcs_address, private=False, logs=None)
        return
    keep: list[str] = []
    with ExitStack() as stack:
        if settings.metrics_port:
            stack.enter_context(claimed("0.0.0.0", settings.metrics_port, "--metrics-port"))
        folder = make_session_folder()
        stack.callback(lambda: None if keep else shutil.rmtree(folder.root, ignore_errors=True))
        stack.enter_context(quieted(folder.log_file) if quiet else nullcontext())
        try:
            _start(settings, address, folder, stack)
            if settings.gpus is not None:
                await_gpus(settings.gpus, settings.gpus_wait_s if address else 0.0)
            yield Cluster(ray.get_runtime_context().gcs_address, private=address is None, logs=folder.root)
        except (UserError, Interrupted):
            raise
        except Exception as error:
            keep.append(f"Ray's logs are in {folder.root}")
            error.add_note(keep[0])
            raise
        finally:
            ray.shutdown()


@contextmanager
def kept(connect: Connect) -> Iterator[Connect]:
    """Yield a `Connect` that joins at its first use and stays until the end of the block, for work of several parts."""
    with ExitStack() as stack:
        joined: list[Any] = []

        def join() -> AbstractContextManager[Any]:
            if not joined:
                joined.append(stack.enter_context(connect()))
            return nullcontext(joined[0])

        yield join


def on_cluster() -> bool:
    """Return whether this process is on a Ray cluster; where it is not, Ray is not even imported."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def is_loopback(address: str) -> bool:
    """Return whether an address, with or without a port, is this machine's own and out of reach for all others."""
    host = address.rpartition("://")[2].rpartition(":")[0] or address
    return host == "localhost" or host.strip("[]") == "::1" or host.startswith("127.")


def _start(settings: ClusterSettings, address: str | None, folder: SessionFolder, stack: ExitStack) -> None:
    """Start a private cluster, or join the one at the address."""
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING, "configure_logging": False}
    store_bytes = (settings.object_store_mib or default_store_mib(settings.cpus)) * 2**20
    asked = address
    try:
        _knock(address)
        own = address is None or is_loopback(address)
        with folder.takes_scratch(), on_loopback() if own else nullcontext():
            if address is None and settings.jobs:
                head = head_node(folder, settings.cpus, store_bytes, settings.metrics_port)
                address = stack.enter_context(head)
            elif address is None:
                options |= {
                    "num_cpus": settings.cpus,
                    "include_dashboard": False,
                    "object_store_memory": store_bytes,
                    "_temp_dir": str(folder.ray),
                    "_metrics_export_port": settings.metrics_port,
                    "_tracing_startup_hook": tracing_hook(),
                }
            with held(), keeping_sigterm(), in_groups_of_their_own():  # half a cluster can't be stopped
                ray.init(address=address, **options)
    except Exception as error:
        # Ray raises plain exceptions too, as where its node takes too long to start
        if isinstance(error, OSError | RuntimeError | ValueError) or type(error) is Exception:
            raise _no_cluster(asked, error) from error
        raise


def store_mib(cpus: int, gpu: bool, shared_memory: int) -> int:
    """Return the size of a private cluster's object store in MiB.

    Where a GPU scores, chunks are four times as large and a decoder on every CPU has several in hand. Ray Data lets
    them take half of the store; half of the shared memory is left to others.

    Parameters
    ----------
    cpus
        Logical CPUs of the cluster.
    gpu
        Whether this machine has one.
    shared_memory
        Free bytes of it.
    """
    wanted = 200 * cpus if gpu else 0
    return max(_STORE_MIB, min(wanted, shared_memory // 2**21))


def default_store_mib(cpus: int) -> int:
    """Return the size of an object store on this machine in MiB; see `store_mib`."""
    return store_mib(cpus, _GPUS.is_dir(), _shared_memory())


def _shared_memory() -> int:
    return shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0


def _use_token_of_here(address: str | None) -> None:
    """Take the token of the cluster that `cluster up` has on this machine, if that is the one and no other is given."""
    standing = Place.of_this_machine().read() if address is not None and not is_given() else None
    if standing is not None and standing.address == address:
        use_file(standing.token_file)


def _knock(address: str | None) -> None:
    """Raise OSError if nothing listens at a cluster's address: Ray would retry for ever, deaf to signals."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def _no_cluster(address: str | None, error: Exception) -> EnvironmentFault:
    if address is None:
        what, hint = "No Ray cluster starts on this machine", "Look at the log, the memory and /dev/shm."
    else:
        what = f"No Ray cluster answers at {address}"
        hint = "Check address and token, or leave out --address and RAY_ADDRESS to start a private one."
    return EnvironmentFault(f"{what} ({type(error).__name__}).", hint)


@contextmanager
def quieted(log_file: Path) -> Iterator[None]:
    """Send all that Ray says in this process to a file: its loggers, its C++ core and its error listener print freely.

    Results are printed after the cluster is gone; whatever writes for the user meanwhile uses a copy of the terminal
    taken before (`cxrgaze_ray.cli.console`).
    """
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with _diverted(1, sys.stdout, log), _diverted(2, sys.stderr, log):
        os.close(log)
        yield


@contextmanager
def _diverted(number: int, stream: TextIO, log: int) -> Iterator[None]:
    stream.flush()
    before = os.dup(number)
    os.dup2(log, number)
    try:
        yield
    finally:
        stream.flush()
        os.dup2(before, number)
        os.close(before)


@contextmanager
def translated() -> Iterator[None]:
    """Raise the cxrgaze error that a worker raised, not Ray's wrapping of it."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        cause = find_cause(error)
        if cause is None:
            raise
        raise cause from error


def find_cause(error: BaseException | None) -> CxrgazeError | None:
    """Return the cxrgaze error among the causes of one that crossed Ray."""
    while error is not None:
        inner = getattr(error, "cause", None) or getattr(error, "_base_exc", None)  # Ray's, and Ray Train's
        # Ray's wrapper has our class too, but a worker's traceback as its text: its cause is the error we raised
        if isinstance(error, CxrgazeError) and not isinstance(inner, CxrgazeError):
            return error
        error = inner or error.__cause__ or error.__context__
    return None


def lost_replica(error: BaseException) -> bool:
    """Return whether a call failed because a replica, its node or the way there went away: asking again may help."""
    from ray import exceptions
    from ray.serve.exceptions import RayServeException

    lost = (
        exceptions.RayActorError,
        exceptions.ObjectLostError,
        exceptions.NodeDiedError,
        exceptions.WorkerCrashedError,
        exceptions.TaskCancelledError,
        RayServeException,
    )
    return isinstance(error, lost)
