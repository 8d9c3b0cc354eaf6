"""Ray is started with a token and without telemetry, its noise goes to a file, and failures are told apart."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cxrgaze_ray.cluster.connection import ClusterSettings, connect, is_loopback, quieted, store_mib
from cxrgaze_ray.cluster.ray_internals import STAYS_LOCAL
from cxrgaze_ray.cluster.session_folder import SessionFolder
from cxrgaze_ray.errors import ConfigError, EnvironmentFault, UserError

PRINT_ENVIRONMENT = """
import json, os, sys
from cxrgaze_ray.cluster.connection import set_ray_environment
assert "ray" not in sys.modules
if "RAY_IS_THERE" in os.environ:
    sys.modules["ray"] = sys
set_ray_environment()
print(json.dumps({name: value for name, value in os.environ.items() if name.startswith("RAY_")}))
"""

SPEAK = """
import os, subprocess, sys
from pathlib import Path
from cxrgaze_ray.cluster.connection import quieted

def speak(word):
    print(word, "out")
    print(word, "err", file=sys.stderr)
    os.write(1, f"{word} native out\\n".encode())
    os.write(2, f"{word} native err\\n".encode())
    subprocess.run(["sh", "-c", f"echo {word} child out; echo {word} child err >&2"])

open_before = sorted(os.listdir("/proc/self/fd"))
print("before", flush=True)
for word in ("first", "second"):
    try:
        with quieted(Path(sys.argv[1])):
            speak(word)
            if word == "second":
                raise KeyError
    except KeyError:
        print("raised")
print("after")
print("after", file=sys.stderr)
assert sorted(os.listdir("/proc/self/fd")) == open_before
"""


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=plain | environment, capture_output=True, text=True, check=True
    )


def ray_environment(home: Path, **given: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(python(PRINT_ENVIRONMENT, HOME=str(home), **given).stdout)
    return found


def test_ray_asks_for_a_fresh_token_and_tells_nobody(tmp_path: Path) -> None:
    first, second = ray_environment(tmp_path), ray_environment(tmp_path)
    assert (first["RAY_AUTH_MODE"], first["RAY_USAGE_STATS_ENABLED"]) == ("token", "0")
    assert len(first["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    given = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "1",
        "RAY_AUTH_TOKEN": "mine",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "1",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "7",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "mine:middlewares",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "7",
    }
    assert ray_environment(tmp_path, **given) == given


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH"])
def test_no_token_is_made_up_where_the_user_has_one(tmp_path: Path, name: str) -> None:
    found = ray_environment(tmp_path, **{name: "anything"})
    assert "RAY_AUTH_TOKEN" not in found
    assert found["RAY_AUTH_MODE"] == "token"


def test_the_users_token_file_is_used(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("mine")
    assert "RAY_AUTH_TOKEN" not in ray_environment(tmp_path)


def test_nothing_is_set_once_ray_is_there(tmp_path: Path) -> None:
    assert ray_environment(tmp_path, RAY_IS_THERE="1") == {"RAY_IS_THERE": "1"}


def test_noise_goes_to_the_file_and_the_terminal_comes_back(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ended = python(SPEAK, str(log))
    assert (ended.stdout, ended.stderr) == ("before\nraised\nafter\n", "after\n")
    noise = log.read_text().splitlines()
    ways = ("out", "err", "native out", "native err", "child out", "child err")
    assert sorted(noise) == sorted(f"{word} {way}" for word in ("first", "second") for way in ways)
    assert log.stat().st_mode & 0o777 == 0o600


def test_redirecting_twice_comes_back_twice(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with quieted(tmp_path / "outer"):
        with quieted(tmp_path / "inner"):
            os.write(1, b"inner")
        os.write(1, b"outer")
    os.write(1, b"terminal")
    assert capfd.readouterr().out == "terminal"
    assert (tmp_path / "outer").read_text() == "outer"
    assert (tmp_path / "inner").read_text() == "inner"


@dataclass
class FakeRay:
    """Stands for the ray module: notes how it was started and stopped."""

    initialized: bool = False
    constants: ModuleType = field(default_factory=lambda: ModuleType("ray_constants"))
    fails: Exception | None = None
    started: list[dict[str, Any]] = field(default_factory=list)
    stops: int = 0
    loopback: list[tuple[bool, str | None]] = field(default_factory=list)
    scratch: list[str] = field(default_factory=list)

    def init(self, **options: Any) -> None:
        os.write(1, b"ray's noise")
        self.started.append(options)
        self.loopback.append((self.constants.ENABLE_RAY_CLUSTER, os.environ.get(STAYS_LOCAL)))
        self.scratch.append(os.environ["TMPDIR"])
        if self.fails is not None:
            raise self.fails

    def accept(self, place: tuple[str, int], timeout: float) -> socket.socket:
        """Stand for what listens at an address."""
        if place == ("nobody", 6379):
            raise ConnectionRefusedError
        return socket.socket()

    def shutdown(self) -> None:
        self.stops += 1

    def module(self) -> ModuleType:
        module = ModuleType("ray")
        members: dict[str, Callable[..., Any]] = {
            "init": self.init,
            "shutdown": self.shutdown,
            "is_initialized": lambda: self.initialized,
            "get_runtime_context": lambda: SimpleNamespace(gcs_address="10.0.0.1:6379"),
            "cluster_resources": lambda: {"CPU": 6.0, "GPU": 1.0},
        }
        for name, member in members.items():
            setattr(module, name, member)
        return module

    def private(self) -> ModuleType:
        """Return what stands for `ray._private`."""
        module, utils, services = ModuleType("ray._private"), ModuleType("utils"), ModuleType("services")
        vars(self.constants)["ENABLE_RAY_CLUSTER"] = True
        vars(utils)["set_sigterm_handler"] = lambda handler: signal.signal(signal.SIGTERM, handler)
        vars(services)["ConsolePopen"] = subprocess.Popen
        vars(module).update(ray_constants=self.constants, utils=utils, services=services)
        return module


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake.module())
    monkeypatch.setitem(sys.modules, "ray._private", fake.private())
    monkeypatch.delenv(STAYS_LOCAL, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("cxrgaze_ray.cluster.session_folder.LONGEST_PARENT", 1000)
    monkeypatch.setattr(socket, "create_connection", fake.accept)
    return fake


def test_a_private_cluster_stops_and_leaves_nothing(ray: FakeRay, tmp_path: Path) -> None:
    with connect() as cluster:
        assert cluster.private
        assert (cluster.address, cluster.cpus(), cluster.gpus()) == ("10.0.0.1:6379", 6, 1)
        assert cluster.logs is not None
        assert (cluster.logs / "cxrgaze.log").read_text() == "ray's noise"
        assert ray.stops == 0
    (options,) = ray.started
    assert (options["address"], options["include_dashboard"]) == (None, False)
    assert options["num_cpus"] >= 4
    assert options["object_store_memory"] == 600 * 2**20
    assert options["_temp_dir"] == str(cluster.logs / "ray")
    assert ray.scratch == [str(cluster.logs / "tmp")]  # what a killed worker leaves goes with the folder
    assert ray.loopback == [(False, "0")]
    assert (ray.constants.ENABLE_RAY_CLUSTER, STAYS_LOCAL in os.environ) == (True, False)
    assert ray.stops == 1
    assert list(tmp_path.iterdir()) == []


def test_settings_size_a_private_cluster(ray: FakeRay) -> None:
    with connect(ClusterSettings(num_cpus=9, object_store_mib=100)):
        pass
    assert (ray.started[0]["num_cpus"], ray.started[0]["object_store_memory"]) == (9, 100 * 2**20)


@pytest.mark.parametrize(
    ("cpus", "gpu", "shared_gib", "mib"),
    [(2, False, 64, 600), (16, False, 64, 600), (16, True, 64, 3200), (2, True, 64, 600), (64, True, 8, 4096)],
)
def test_a_gpu_s_large_chunks_find_room_in_the_object_store(cpus: int, gpu: bool, shared_gib: int, mib: int) -> None:
    assert store_mib(cpus, gpu, shared_gib * 2**30) == mib


def test_a_private_cluster_that_takes_jobs_is_a_process_of_its_own(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heads: list[tuple[int, int, int | None, int]] = []

    @contextmanager
    def head_node(folder: SessionFolder, cpus: int, store_bytes: int, metrics_port: int | None) -> Iterator[str]:
        heads.append((cpus, store_bytes, metrics_port, ray.stops))
        yield "127.0.0.1:7777"
        heads.append((cpus, store_bytes, metrics_port, ray.stops))

    monkeypatch.setattr("cxrgaze_ray.cluster.connection.head_node", head_node)
    with connect(ClusterSettings(jobs=True, num_cpus=5, object_store_mib=100, metrics_port=9)) as cluster:
        assert cluster.private
        assert len(heads) == 1
    (options,) = ray.started
    assert (options["address"], "_temp_dir" in options) == ("127.0.0.1:7777", False)
    assert heads == [(5, 100 * 2**20, 9, 0), (5, 100 * 2**20, 9, 1)]  # this process leaves before its head ends
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_at_an_address_has_its_own_head(ray: FakeRay) -> None:
    with connect(ClusterSettings(address="head:6379", jobs=True)) as cluster:
        assert not cluster.private
    assert ray.started[0]["address"] == "head:6379"


def test_a_head_that_does_not_start_is_the_environments_fault(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EnvironmentFault, match="on this machine") as error:
        connect(ClusterSettings(jobs=True)).__enter__()
    assert "--address" not in error.value.hint
    assert Path(error.value.__notes__[0].rpartition(" ")[2]).is_dir()
    assert ray.started == []


def test_the_logs_of_a_bug_stay_and_are_named(ray: FakeRay, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as error, connect():
        raise ZeroDivisionError
    (folder,) = tmp_path.iterdir()
    assert error.value.__notes__ == [f"Ray's logs are in {folder}"]
    assert ray.stops == 1


def test_a_user_s_error_passes_as_it_is(ray: FakeRay, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error, connect():
        raise UserError("No.")
    assert not hasattr(error.value, "__notes__")
    assert list(tmp_path.iterdir()) == []
    assert ray.stops == 1


def test_an_outage_names_the_log(ray: FakeRay, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as error, connect():
        raise EnvironmentFault("The model is gone.")
    (folder,) = tmp_path.iterdir()
    assert error.value.__notes__ == [f"Ray's logs are in {folder}"]


@pytest.mark.parametrize("given", ["option", "variable"])
def test_a_cluster_at_an_address_is_joined(ray: FakeRay, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379" if given == "variable" else "another:1")
    with connect(ClusterSettings(address="head:6379" if given == "option" else None)) as cluster:
        assert not cluster.private
    (options,) = ray.started
    assert options["address"] == "head:6379"
    assert {"num_cpus", "object_store_memory", "_temp_dir"}.isdisjoint(options)
    assert ray.stops == 1


def test_a_cluster_at_an_address_is_not_sized(ray: FakeRay) -> None:
    with pytest.raises(ConfigError, match="num_cpus"), connect(ClusterSettings(address="head:6379", num_cpus=2)):
        pass
    assert ray.started == []


def test_the_cluster_this_process_is_on_is_neither_started_nor_stopped(ray: FakeRay) -> None:
    ray.initialized = True
    with connect() as cluster:
        assert (cluster.address, cluster.private, cluster.logs) == ("10.0.0.1:6379", False, None)
    assert (ray.started, ray.stops) == ([], 0)


@pytest.mark.parametrize("address", [None, "head:6379"])
@pytest.mark.parametrize(
    "fault",
    [ConnectionError("refused"), TimeoutError(), RuntimeError("gone"), ValueError("bad"), Exception("too slow")],
)
def test_a_cluster_that_does_not_answer_is_the_environments_fault(
    ray: FakeRay, address: str | None, fault: Exception
) -> None:
    ray.fails = fault
    where = f"at {address}" if address else "on this machine"
    with pytest.raises(EnvironmentFault, match=f"{where} .{type(fault).__name__}.") as error:
        connect(ClusterSettings(address=address)).__enter__()
    assert error.value.hint
    folder = Path(error.value.__notes__[0].rpartition(" ")[2])
    assert (folder / "cxrgaze.log").read_text() == "ray's noise"


@pytest.mark.parametrize("address", ["nobody:6379", "ray://nobody:6379"])
def test_ray_is_not_asked_where_nobody_listens(ray: FakeRay, address: str) -> None:
    with pytest.raises(EnvironmentFault, match=f"No Ray cluster answers at {address} .ConnectionRefusedError."):
        connect(ClusterSettings(address=address)).__enter__()
    assert not ray.started


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1:6379", True),
        ("localhost:6379", True),
        ("127.0.0.1", True),
        ("[::1]:6379", True),
        ("10.0.0.1:6379", False),
        ("head:6379", False),
        ("auto", False),
    ],
)
def test_an_address_of_this_machine_is_taken_as_it_stands(ray: FakeRay, address: str, own: bool) -> None:
    assert is_loopback(address) == own
    with connect(ClusterSettings(address=address)):
        pass
    assert ray.loopback == [(False, "0") if own else (True, None)]


def test_who_set_ray_s_switch_for_loopback_decides(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STAYS_LOCAL, "1")
    with connect():
        pass
    assert ray.loopback == [(True, "1")]


def test_a_stop_while_ray_starts_waits_for_it_and_leaves_nothing(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[bool] = []

    def init(**options: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        started.append(True)

    monkeypatch.setattr(sys.modules["ray"], "init", init)
    with pytest.raises(KeyboardInterrupt), connect():
        pytest.fail("it went on")
    assert (started, ray.stops) == ([True], 1)
    assert list(tmp_path.iterdir()) == []


def test_a_running_cluster_has_its_own_port_for_metrics(ray: FakeRay) -> None:
    with pytest.raises(ConfigError, match="--metrics-port is for a private cluster"):
        connect(ClusterSettings(address="127.0.0.1:6379", metrics_port=9468)).__enter__()
    assert not ray.started


def test_unknown_cluster_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="cpus"):
        ClusterSettings.build(cpus=3)
