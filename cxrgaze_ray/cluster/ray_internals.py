"""Everything we use of Ray below its public interface.

`tests/unit/cluster/test_ray_internals.py` says why, for upgrades. Nothing here imports Ray before it is called.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

DRAINS_S = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
"""Environment variable: how long `ray start --block` waits for its node's work to move elsewhere before it stops."""

METRICS_PORTS = {"AUTOSCALER_METRIC_PORT": 44217, "DASHBOARD_METRIC_PORT": 44227}
"""Environment variables, with what Ray takes else: ports of a head's own metrics, which only one head has of a machine.

Another one goes without, and still has Prometheus told that it is there.
"""

STAYS_LOCAL = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Environment variable: with 0, Ray treats this machine like a Mac, which joins no others: all listens on 127.0.0.1."""


@contextmanager
def on_loopback() -> Iterator[None]:
    """Have what Ray starts listen on 127.0.0.1 only, and take 127.0.0.1 in an address literally.

    Ray asks for a node's address in many places and replaces 127.0.0.1 by the machine's own everywhere, unless this
    switch is set. A variable that the user has set is left alone; it is for child processes, as this one has read it.
    """
    from ray._private import ray_constants

    if STAYS_LOCAL in os.environ:
        yield
        return
    os.environ[STAYS_LOCAL] = "0"
    try:
        with _replaced(ray_constants, "ENABLE_RAY_CLUSTER", False):
            yield
    finally:
        del os.environ[STAYS_LOCAL]


@contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Keep this process's answer to SIGTERM, if it has one, where Ray would set its own: to exit at once, with 15."""
    from ray._private import utils

    if not callable(signal.getsignal(signal.SIGTERM)):
        yield
        return
    with _replaced(utils, "set_sigterm_handler", lambda _handler: None):
        yield


@contextmanager
def in_groups_of_their_own() -> Iterator[None]:
    """Have each of a node's processes start in a process group of its own.

    A signal to our whole group (`timeout`, a terminal, some batch systems) then reaches us alone, and we stop them in
    order. Otherwise GCS is gone before its clients, which wait a minute for it and then abort this process.
    """
    from ray._private import services

    with _replaced(services, "ConsolePopen", partial(services.ConsolePopen, process_group=0)):
        yield


@contextmanager
def keeping_ctrl_c() -> Iterator[None]:
    """Keep this process's answer to Ctrl-C where Ray Train would set its own: to exit with 0, as if it had trained."""
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    with _replaced(DataParallelTrainer, "_register_sigint_handler", lambda _self, _controller: None):
        yield


def training_callback(on_state: Callable[[str, int | None], None], on_worker: Callable[[], None]) -> Any:
    """Return a callback for Ray Train's controller, whose public one tells of nothing but reports and exceptions.

    Parameters
    ----------
    on_state
        Called in the controller with the name of every state that it takes on, and where it is about to start workers,
        with their number.
    on_worker
        Called on every worker's main thread, where signals are answered, before its training begins.
    """
    from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback

    class Callback(ControllerCallback, WorkerGroupCallback):
        def after_controller_state_update(self, _previous: Any, current: Any) -> None:
            decision = getattr(current, "scaling_decision", None)
            on_state(current._state_type.state_name, getattr(decision, "num_workers", None))

        def after_worker_group_start(self, worker_group: Any) -> None:
            worker_group.execute_async(on_worker)

    return Callback()


@contextmanager
def counting_failures_without(progress: Callable[[], Any]) -> Iterator[None]:
    """Have Ray Train count only workers' failures between which there is no progress, not all of a training's.

    Parameters
    ----------
    progress
        Called in the controller; what it returns changes with every progress.
    """
    from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy
    from ray.train.v2.api import data_parallel_trainer

    class Policy(DefaultFailurePolicy):
        _seen: Any = None

        def make_decision(self, training_failed_error: Any) -> Any:
            if (now := progress()) != self._seen:
                self._seen, self._worker_group_failures = now, 0
            return super().make_decision(training_failed_error)

    with _replaced(data_parallel_trainer, "create_failure_policy", Policy):
        yield


def leave_out_statistics() -> None:
    """Stop Ray Data from pickling the statistics of all blocks every 5 s: more than a second after 20,000 of them."""
    from ray.data._internal.block_batching.iter_batches import BatchIterator

    BatchIterator.UPDATE_METRICS_INTERVAL_S = math.inf


def dead_jobs() -> set[str]:
    """Return the ids of the cluster's jobs that have ended, however they ended."""
    from ray._private import state

    return {job["JobID"] for job in state.jobs() if job["IsDead"]}  # type: ignore[no-untyped-call]


def same_version(deployment: Any, name: str, user_config: dict[str, Any] | None) -> Any:
    """Return a Serve deployment with a version of its own: another `user_config` then leaves its replicas running."""
    return deployment.options(user_config=user_config, version=name, _internal=True)  # else a random one is drawn


def http_host() -> str | None:
    """Return the address on which this cluster's Serve listens for HTTP, whoever started it; None if it does not."""
    from ray.serve.context import _get_global_client

    host: str | None = _get_global_client().http_config.host  # type: ignore[union-attr]
    return host


def store_stats(gcs_address: str) -> Any:
    """Return the statistics of all object stores in the cluster.

    Ray shows them through its dashboard and metrics agent, which a private cluster does without; so we ask where
    `ray memory` asks.
    """
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    return get_memory_info_reply(get_state_from_address(gcs_address)).store_stats  # type: ignore[no-untyped-call]


def dashboard_of(gcs_address: str) -> str | None:
    """Return where a cluster's dashboard listens, HOST:PORT; None if the cluster has none.

    Raises whatever Ray raises where the cluster does not answer, or has another token than this process.
    """
    from ray._private import ray_constants
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # it is compiled

    asked = GcsClient(address=gcs_address).internal_kv_get(
        ray_constants.DASHBOARD_ADDRESS.encode(), ray_constants.KV_NAMESPACE_DASHBOARD, timeout=20
    )
    return asked.decode() if asked else None


def start_node(gcs_address: str, cpus: int, store_bytes: int) -> subprocess.Popen[bytes]:
    """Start one more node of this process's private cluster, on the same machine; return its raylet.

    All that runs on the node is below that process. `ray start` refuses to join a cluster on loopback, and
    `ray.cluster_utils` wants to have started the head.
    """
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    options: dict[str, Any] = {"num_cpus": cpus, "object_store_memory": store_bytes, "include_log_monitor": False}
    options |= {"node_manager_port": 0, "min_worker_port": 0, "max_worker_port": 0, "dashboard_agent_listen_port": None}
    params = RayParams(gcs_address=gcs_address, **options)
    with on_loopback(), in_groups_of_their_own():
        node = Node(params, head=False, shutdown_at_exit=False, spawn_reaper=False)
    raylet: subprocess.Popen[bytes] = node.all_processes["raylet"][0].process
    return raylet


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
