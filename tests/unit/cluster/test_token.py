"""A cluster's token is in a file of its owner's, and in nothing else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cxrgaze_ray.cluster import token
from cxrgaze_ray.errors import ConfigError

GOOD = "0123456789abcdef"


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def write(file: Path, text: str = GOOD, mode: int = 0o600) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_token_is_made_for_its_owner_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "place" / "token"
    token.make_token(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    made = token.read_token(file)
    assert len(made) == 64
    token.make_token(file)
    assert token.read_token(file) == made
    assert list(file.parent.iterdir()) == [file]


def test_one_that_others_can_read_is_refused(tmp_path: Path) -> None:
    for mode in (0o640, 0o604, 0o644):
        with pytest.raises(ConfigError, match="Others may read"):
            token.read_token(write(tmp_path / "token", mode=mode))


@pytest.mark.parametrize("text", ["", "short", "0123456789 abcdef", "0123456789\nabcdefgh", "Schlüssel-Schlüssel"])
def test_what_is_no_token_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="no token") as told:
        token.read_token(write(tmp_path / "token", text))
    assert not text or text not in str(told.value)


def test_a_file_that_is_not_there_is_told_with_the_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--token-file"):
        token.read_token(tmp_path / "none")


def test_rays_processes_take_it_from_the_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of another cluster")
    monkeypatch.setenv("RAY_ADDRESS", "another:6379")
    found = token.environment_with(tmp_path / "token")
    assert found["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "token")
    assert found["RAY_AUTH_MODE"] == "token"
    assert not {"RAY_AUTH_TOKEN", "RAY_ADDRESS"} & found.keys()
    assert os.environ["RAY_AUTH_TOKEN"] == "of another cluster"


def test_one_that_was_made_up_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not token.is_given()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "to be put back")
    token.make_up_token()
    assert not token.is_given()
    with pytest.raises(ConfigError, match="--token-file"):
        token.given_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", GOOD)
    assert token.is_given()
    assert token.given_token() == GOOD


def test_rays_own_files_are_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert token.given_file() is None
    (tmp_path / ".ray").mkdir()
    usual = write(tmp_path / ".ray" / "auth_token")
    assert token.given_file() == usual
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "named"))
    assert token.given_file() == tmp_path / "named"
    assert token.is_given()


def test_this_process_takes_it_from_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "before")  # and so it is after the test
    token.use_file(tmp_path / "token")
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert (os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN_PATH"]) == ("token", str(tmp_path / "token"))
