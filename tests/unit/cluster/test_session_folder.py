"""Ray's folder lies where its sockets fit, and where nobody else of the machine gets in."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxrgaze_ray.cluster.session_folder import LONGEST_PARENT, SessionFolder, make_session_folder
from cxrgaze_ray.errors import EnvironmentFault

SOCKET = "session_2026-11-28_03-12-47_123456_4194304/sockets/plasma_store"
"""As Ray names it, with the longest process id that Linux has."""

PRY = 'ls "$1" || stat "$1/session" || mv "$1" "$1-" || cat "$1/session/log"'


@pytest.fixture
def folder() -> Iterator[SessionFolder]:
    folder = make_session_folder()
    yield folder
    shutil.rmtree(folder.root)


def test_a_long_tmpdir_is_left_for_a_shorter_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("a" * 84)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    folder = make_session_folder()
    try:
        assert folder.root.parent == Path("/tmp")
        assert len(os.fsencode(folder.ray / SOCKET)) <= 107
    finally:
        folder.root.rmdir()


def test_the_longest_tmpdir_that_is_taken_has_room_for_the_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t" * (LONGEST_PARENT - len("/tmp/12345678"))) as parent:
        assert len(parent) == LONGEST_PARENT
        monkeypatch.setattr(tempfile, "tempdir", parent)
        folder = make_session_folder()
        assert folder.root.parent == Path(parent)
        assert len(os.fsencode(folder.ray / SOCKET)) == 107


def test_where_no_place_is_short_enough_the_advice_is_a_length(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("a" * 84)))
    monkeypatch.setattr("cxrgaze_ray.cluster.session_folder._SHORT", ("/nonexistent",))
    with pytest.raises(EnvironmentFault, match=f"TMPDIR .* at most {LONGEST_PARENT} characters") as error:
        make_session_folder()
    assert error.value.exit_code == 4


def test_scratch_goes_to_the_folder_for_the_block_only(folder: SessionFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "/elsewhere"):
        monkeypatch.delenv("TMPDIR", raising=False)
        if before:
            monkeypatch.setenv("TMPDIR", before)
        with folder.takes_scratch():
            assert Path(os.environ["TMPDIR"]).parent == folder.root
        assert os.environ.get("TMPDIR") == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another user")
def test_another_user_neither_reads_nor_moves_what_ray_opens_to_everybody(folder: SessionFolder) -> None:
    session = folder.ray / "session"
    session.mkdir(parents=True)
    (session / "log").write_text("secret")
    for place in (folder.ray, session, session / "log"):
        place.chmod(0o777)  # as Ray does
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    command = ["sh", "-c", PRY, "sh", str(folder.ray)]
    done = subprocess.run(command, user="nobody", extra_groups=[], cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.count("Permission denied") == 4, done
