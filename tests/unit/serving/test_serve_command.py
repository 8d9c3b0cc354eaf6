"""`cxrgaze serve` from its ports to Ctrl-C, with a stand-in for the cluster and the application."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest

from cxrgaze_ray.cli import main
from cxrgaze_ray.cluster.connection import Cluster, ClusterSettings
from cxrgaze_ray.config.serve_file import ServeFile
from cxrgaze_ray.errors import EXIT_INTERRUPTED
from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS, GazeNetConfig
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.versions import Registry, pin_to_score
from cxrgaze_ray.storage import LocalStore

PIN_TO_SCORE = pin_to_score
"""What the fixture replaces."""


class Service:
    """Stands for Ray and the application: notes what is asked of it, and has the user press Ctrl-C when it is ready."""

    def __init__(self) -> None:
        self.bounded, self.asked = True, [""]
        self.where = ClusterSettings()

    @contextmanager
    def connect(self, where: ClusterSettings) -> Iterator[Cluster]:
        self.where = where
        self.asked.append("connect")
        try:
            yield Cluster("head:1", private=where.address is None, logs=None)
        finally:
            self.asked.append("disconnect")

    def start(self, file: ServeFile) -> None:
        self.asked.append(f"start {file.ingress.model}")

    def ready(self, file: ServeFile) -> bool:
        Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        return self.bounded

    def stop(self) -> None:
        self.asked.append("stop")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Service:
    made = Service()
    monkeypatch.setattr("cxrgaze_ray.cluster.connection.connect", made.connect)
    for name, part in (("start_http", made.start), ("wait_ready", made.ready), ("stop_http", made.stop)):
        monkeypatch.setattr(f"cxrgaze_ray.serving.{name}", part)
    monkeypatch.setattr("cxrgaze_ray.registry.versions.pin_to_score", lambda registry, model: None)
    monkeypatch.setattr(sys.modules["cxrgaze_ray.cli.main"], "set_ray_environment", lambda: None)
    for module, name in (("main", "complain"), ("main", "tell_error"), ("console", "say"), ("operate", "say")):
        monkeypatch.setattr(sys.modules[f"cxrgaze_ray.cli.{module}"], name, lambda sentence: print(sentence))
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def serve(service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["cxrgaze", "serve", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == EXIT_INTERRUPTED
        return capsys.readouterr().out

    return run


@pytest.fixture
def ports() -> tuple[str, str]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1]), str(two.getsockname()[1])


def test_ctrl_c_speaks_of_requests_and_takes_the_application_away(
    serve: Callable[..., str], service: Service, ports: tuple[str, str]
) -> None:
    said = serve("--model", "cxrgaze@v3", "--port", ports[0], "--metrics-port", ports[1])
    assert service.asked[1:] == ["connect", "start cxrgaze@v3", "stop", "disconnect"]
    assert "Stopping: requests" in said
    assert "shard" not in said
    assert f"metrics on port {ports[1]}" in said
    assert service.where.metrics_port == int(ports[1])
    assert "Warning" not in said


def test_a_cluster_whose_proxy_bounds_nothing_is_told_of(
    serve: Callable[..., str], service: Service, ports: tuple[str, str]
) -> None:
    service.bounded = False
    said = serve("--port", ports[0], "--metrics-port", "0")
    assert "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH" in said
    assert service.where.metrics_port is None


def test_ports_of_a_running_cluster_are_not_this_machine_s(serve: Callable[..., str], service: Service) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        serve("--address", "head:6379", "--port", str(held.getsockname()[1]))
    assert (service.where.address, service.where.metrics_port) == ("head:6379", None)


def test_a_model_that_reads_gaze_is_not_served_and_nothing_is_started(
    service: Service,
    ports: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("cxrgaze_ray.registry.versions.pin_to_score", PIN_TO_SCORE)
    Registry(LocalStore(str(tmp_path))).publish(make_bundle(build(PRESETS["tiny"]), "m", trained=False))
    monkeypatch.setattr(GazeNetConfig, "needs_gaze", True)
    arguments = ["--model", "m@v1", "--registry", str(tmp_path), "--port", ports[0], "--metrics-port", ports[1]]
    monkeypatch.setattr(sys, "argv", ["cxrgaze", "serve", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "m reads the reader's gaze beside the image" in capsys.readouterr().out
    assert service.asked == [""]
