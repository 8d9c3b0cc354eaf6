"""Where HTTP listens, and what others could read of it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.config.listening import Listening, is_loopback
from cxrgaze_ray.errors import ConfigError

TLS = {"ssl_certfile": "c.pem", "ssl_keyfile": "k.pem"}


@pytest.mark.parametrize(
    ("given", "origin", "in_the_clear"),
    [
        ({}, "http://127.0.0.1:8000", False),
        ({"host": "::1"}, "http://[::1]:8000", False),
        ({"host": "0.0.0.0"}, "http://0.0.0.0:8000", True),
        ({"host": "a-name", "port": 80}, "http://a-name:80", True),
        ({"host": "0.0.0.0", **TLS}, "https://0.0.0.0:8000", False),
    ],
)
def test_what_others_could_read_is_known(given: dict[str, Any], origin: str, in_the_clear: bool) -> None:
    found = Listening.build(**given)
    assert (found.origin, found.in_the_clear) == (origin, in_the_clear)


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("0.0.0.0", "http://scanner-7:8000"),
        ("::", "http://scanner-7:8000"),
        ("::1", "http://[::1]:8000"),
        ("10.0.0.7", "http://10.0.0.7:8000"),
        ("a-name", "http://a-name:8000"),
    ],
)
def test_people_are_told_an_address_that_a_browser_can_open(
    host: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "scanner-7")
    assert Listening.build(host=host).told_origin == told


@pytest.mark.parametrize("name", TLS)
def test_a_certificate_and_its_key_go_together(name: str) -> None:
    with pytest.raises(ConfigError, match="go together"):
        Listening.build(**{name: "x.pem"})


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.pem").touch()
    with pytest.raises(ConfigError, match=r"k\.pem can't be read: No such file"):
        Listening.build(ssl_certfile=str(tmp_path / "c.pem"), ssl_keyfile=str(tmp_path / "k.pem")).check_files()
    Listening().check_files()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_is_this_machine_only(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
