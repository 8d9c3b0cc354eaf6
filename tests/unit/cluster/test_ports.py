"""Ports of services: taken ones are refused before anything starts."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from ray import serve
from ray.exceptions import RayActorError

from cxrgaze_ray.cluster.ports import claimed, free_port, start_proxy
from cxrgaze_ray.config.listening import Listening
from cxrgaze_ray.errors import EXIT_ENVIRONMENT, EXIT_USER, ConfigError, ServingUnavailable


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def listener(port: int) -> Iterator[socket.socket]:
    """Listen as Ray Serve does: others may share the port."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
        yield listening


@pytest.mark.parametrize(("host", "named"), [("127.0.0.1", "127.0.0.1:"), ("0.0.0.0", "port ")])
def test_a_port_that_is_listened_on_is_refused(listener: socket.socket, port: int, host: str, named: str) -> None:
    with pytest.raises(ConfigError, match=f"on {named}{port}.*--port") as refused, claimed(host, port):
        pytest.fail("it was given")
    assert refused.value.exit_code == EXIT_USER


def test_of_two_services_that_start_the_second_is_refused(port: int) -> None:
    with claimed("127.0.0.1", port):
        with pytest.raises(ConfigError, match=str(port)), claimed("127.0.0.1", port):
            pytest.fail("it was given twice")
        with claimed("127.0.0.1", free_port()):
            pass
    with claimed("127.0.0.1", port):
        pass


def test_a_killed_service_leaves_nothing_behind(port: int) -> None:
    code = f"""
import os
from cxrgaze_ray.cluster.ports import claimed
with claimed("127.0.0.1", {port}):
    print("claimed", flush=True)
    os.kill(os.getpid(), 9)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.stdout, ended.returncode) == ("claimed\n", -9)
    with claimed("127.0.0.1", port):
        pass


def test_connections_that_have_just_ended_do_not_hold_a_port(listener: socket.socket, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        accepted, _ = listener.accept()
        accepted.close()  # the side that closes first waits
        client.recv(1)
    listener.close()
    with claimed("127.0.0.1", port):
        pass


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 8000), ("127.0.0.1", 70_000), ("no.such.host.invalid", 8000)])
def test_what_is_no_place_of_this_machine_is_refused(host: str, port: int) -> None:
    with pytest.raises(ConfigError, match=str(port)), claimed(host, port):
        pytest.fail("it was given")


@pytest.mark.parametrize("error", [RayActorError(), TimeoutError("HTTP proxies not available after 60s.")])
def test_a_proxy_that_a_busy_machine_does_not_start_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def start(**_: object) -> None:
        raise error

    monkeypatch.setattr(serve, "start", start)
    with pytest.raises(ServingUnavailable, match="Try again") as told:
        start_proxy(Listening())
    assert told.value.exit_code == EXIT_ENVIRONMENT
