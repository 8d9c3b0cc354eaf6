"""What we use of Ray below its public interface is there, and does what we take it to do.

A failure here after an upgrade of Ray names what to look at, and why it is needed; then widen the range in
pyproject.toml. What no unit test can see is held by `tests/integration/test_private_cluster.py`: that everything
listens on loopback, and that a stop ends with our code.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement
from ray import serve
from ray.serve.config import HTTPOptions

from cxrgaze_ray.cluster import ray_internals
from tests.unit.test_licences import direct_requirements

PACKAGE = Path(ray_internals.__file__).parents[1]


def private_names(source: str) -> Iterator[str]:
    """Yield the names of Ray's private modules and options in a source file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ray":
            parts = [*node.module.split("."), *(alias.name for alias in node.names)]
            yield from (part for part in parts if part.startswith("_"))
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            yield from (part for name in names if name[0] == "ray" for part in name if part.startswith("_"))
        elif isinstance(node, ast.keyword) and node.arg in {"_internal", "_temp_dir", "_system_config"}:
            yield node.arg
        elif isinstance(node, ast.Attribute) and node.attr in {"_private", "_internal"}:
            yield node.attr


def test_nothing_else_uses_ray_s_private_modules() -> None:
    users = {path.name for path in PACKAGE.rglob("*.py") if list(private_names(path.read_text()))}
    assert users == {"ray_internals.py"}


def test_the_search_finds_them() -> None:
    for line in (
        "from ray._private import state",
        "import ray.data._internal.x",
        "f(_internal=True)",
        "ray._private.y",
    ):
        assert list(private_names(line)), line


def test_the_range_of_ray_has_a_ceiling() -> None:
    (ray,) = (one for one in direct_requirements() if one.name == "ray")
    assert ray.specifier.contains("2.60.0")
    assert not ray.specifier.contains("2.61.0")
    locked = re.search(r"^ray==(.+)$", (PACKAGE.parent / "requirements.lock").read_text(), re.M)
    assert locked
    assert Requirement(str(ray)).specifier.contains(locked[1])


def test_a_node_without_cluster_is_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    monkeypatch.delenv(ray_internals.STAYS_LOCAL, raising=False)
    with ray_internals.on_loopback():
        assert services.get_node_ip_address() == "127.0.0.1"  # type: ignore[no-untyped-call]
        assert services.resolve_ip_for_localhost("localhost") == "127.0.0.1"
        assert os.environ[ray_internals.STAYS_LOCAL] == "0"
    assert ray_internals.STAYS_LOCAL not in os.environ


def test_how_long_a_head_drains_is_read_from_the_environment() -> None:
    from ray._private import node, ray_constants

    source = inspect.getsource(node.Node._drain_node_before_shutdown)
    assert ray_internals.DRAINS_S in source
    assert hasattr(ray_constants, ray_internals.DRAINS_S)


def test_a_head_s_own_metrics_have_the_ports_that_the_environment_says() -> None:
    program = (
        "from ray.autoscaler._private.constants import AUTOSCALER_METRIC_PORT as one;"
        "from ray.dashboard.consts import DASHBOARD_METRIC_PORT as other; print(one, other)"
    )
    for given in ({}, dict.fromkeys(ray_internals.METRICS_PORTS, "7")):
        words = [sys.executable, "-c", program]
        done = subprocess.run(words, env=os.environ | given, capture_output=True, text=True, check=True, timeout=60)
        expected = given.values() or ray_internals.METRICS_PORTS.values()
        assert done.stdout.split() == [str(port) for port in expected]


def test_a_counter_may_be_shown_before_it_counts_and_a_cluster_may_be_told_to_trace() -> None:
    import ray
    from ray.scripts.scripts import start
    from ray.util.metrics import Counter

    assert list(inspect.signature(Counter._record).parameters) == ["self", "value", "tags"]
    assert "_tracing_startup_hook" in inspect.getsource(ray.init)
    assert "tracing_startup_hook" in {option.name for option in start.params}


def test_ray_s_own_answer_to_sigterm_is_left_out() -> None:
    from ray._private import utils

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        ours = signal.getsignal(signal.SIGTERM)
        with ray_internals.keeping_sigterm():
            utils.set_sigterm_handler(signal.SIG_IGN)  # type: ignore[no-untyped-call]
        assert signal.getsignal(signal.SIGTERM) is ours
        utils.set_sigterm_handler(signal.SIG_IGN)  # type: ignore[no-untyped-call]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_node_s_processes_start_in_groups_of_their_own() -> None:
    from ray._private import services

    assert "ConsolePopen(" in inspect.getsource(services.start_ray_process)
    with ray_internals.in_groups_of_their_own():
        process = services.ConsolePopen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
    finally:
        process.communicate(b"\n")


def test_ray_train_s_own_answer_to_ctrl_c_is_left_out() -> None:
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    theirs = DataParallelTrainer._register_sigint_handler
    assert "SIGINT" in theirs.__code__.co_names
    with ray_internals.keeping_ctrl_c():
        assert DataParallelTrainer._register_sigint_handler is not theirs
    assert DataParallelTrainer._register_sigint_handler is theirs


def test_ray_data_updates_statistics_as_often_as_it_is_told() -> None:
    from ray.data._internal.block_batching.iter_batches import BatchIterator

    assert isinstance(BatchIterator.UPDATE_METRICS_INTERVAL_S, float)
    assert "self.UPDATE_METRICS_INTERVAL_S" in inspect.getsource(BatchIterator)
    ray_internals.leave_out_statistics()
    assert math.isinf(BatchIterator.UPDATE_METRICS_INTERVAL_S)


def test_a_deployment_keeps_the_version_it_is_given() -> None:
    @serve.deployment
    class Model:
        pass

    briefed = ray_internals.same_version(Model, "one", {"a": 1})
    assert (briefed.version, briefed.user_config) == ("one", {"a": 1})
    assert ray_internals.same_version(Model, "one", None).version == "one"


def test_the_functions_that_ask_a_cluster_are_there() -> None:
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address
    from ray._private.state import jobs

    assert all(callable(one) for one in (jobs, get_memory_info_reply, get_state_from_address))


def test_serve_s_client_knows_where_http_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    context: Any = importlib.import_module("ray.serve.context")
    client: Any = importlib.import_module("ray.serve._private.client")
    assert callable(context._get_global_client)
    assert isinstance(client.ServeControllerClient.http_config, property)
    asked = SimpleNamespace(http_config=HTTPOptions(host="0.0.0.0"))
    monkeypatch.setattr(context, "_get_global_client", lambda: asked)
    assert ray_internals.http_host() == "0.0.0.0"


def test_the_callback_hears_of_states_and_reaches_workers() -> None:
    from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
    from ray.train.v2._internal.execution.controller import state
    from ray.train.v2._internal.execution.scaling_policy import ResizeDecision
    from ray.train.v2._internal.execution.worker_group import WorkerGroup

    heard: list[tuple[str, int | None]] = []
    callback = ray_internals.training_callback(lambda *told: heard.append(told), lambda: None)
    assert isinstance(callback, ControllerCallback)
    assert isinstance(callback, WorkerGroupCallback)
    resize = ResizeDecision(num_workers=3, resources_per_worker={})
    running: Any = state.RunningState  # untyped
    for now in (state.SchedulingState(resize), running(), state.ResizingState(resize)):
        callback.after_controller_state_update(running(), now)
    assert heard == [("SCHEDULING", 3), ("RUNNING", None), ("RESIZING", 3)]
    assert callable(WorkerGroup.execute_async)
    names = {kind.name for kind in state.TrainControllerStateType}
    assert {"INITIALIZING", "SCHEDULING", "RESCHEDULING", "RESTARTING", "RUNNING", "PREEMPTING", "RESIZING"} <= names


def test_only_failures_without_progress_between_them_are_counted() -> None:
    from ray.train import FailureConfig, WorkerGroupError

    progress = iter(["a", "a", "b", "b", "b", "b"])
    with ray_internals.counting_failures_without(lambda: next(progress)):
        trainers: Any = importlib.import_module("ray.train.v2.api.data_parallel_trainer")
        policy = trainers.create_failure_policy(FailureConfig(max_failures=2))
    error = WorkerGroupError("lost", {0: RuntimeError("lost")})
    decisions = [policy.make_decision(error).value for _ in range(5)]
    assert decisions == ["RETRY", "RETRY", "RETRY", "RETRY", "RAISE"]


def test_one_more_node_is_a_raylet_on_loopback_that_we_end(monkeypatch: pytest.MonkeyPatch) -> None:
    node: Any = importlib.import_module("ray._private.node")
    constants: Any = importlib.import_module("ray._private.ray_constants")
    assert {"head", "shutdown_at_exit", "spawn_reaper"} <= set(inspect.signature(node.Node).parameters)
    started: list[Any] = []

    def start(params: Any, **how: bool) -> Any:
        started.append((params, how, os.environ[ray_internals.STAYS_LOCAL]))
        return SimpleNamespace(all_processes={constants.PROCESS_TYPE_RAYLET: [SimpleNamespace(process="raylet")]})

    monkeypatch.setattr(node, "Node", start)
    found: Any = ray_internals.start_node("127.0.0.1:6379", 4, 2**27)
    assert found == "raylet"
    ((params, how, local),) = started
    assert (params.gcs_address, params.num_cpus, params.object_store_memory) == ("127.0.0.1:6379", 4, 2**27)
    assert (how, local) == ({"head": False, "shutdown_at_exit": False, "spawn_reaper": False}, "0")
