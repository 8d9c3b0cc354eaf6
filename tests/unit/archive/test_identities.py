"""Keyed hashes: the same for a patient everywhere, nothing without the key."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cxrgaze_ray.archive.identities import KEY_VARIABLE, Identities, default_key_file, open_key
from cxrgaze_ray.errors import UserError


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pseudonyms.key"
    first, second = open_key(path), open_key(path)
    assert first == second
    assert first.key is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_key(tmp_path / "another.key") != first


def test_of_many_first_uses_at_once_one_makes_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = secrets.token_hex

    def slowly(size: int) -> str:
        time.sleep(0.005)
        return draw(size)

    monkeypatch.setattr(secrets, "token_hex", slowly)
    with ThreadPoolExecutor(12) as pool:
        for number in range(5):
            path = tmp_path / f"{number}" / "pseudonyms.key"
            assert len({found.name for found in pool.map(open_key, [path] * 12)}) == 1
            assert list(path.parent.iterdir()) == [path]


def test_a_key_that_was_not_written_whole_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pseudonyms.key"

    def full(_: int) -> None:
        assert not path.exists()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="can't be used: No space left on device"):
            open_key(path)
    assert list(tmp_path.iterdir()) == []
    assert open_key(path).key is not None


def test_an_empty_key_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    with pytest.raises(UserError, match=r"key is empty\. Restore it if it ever held a key; else remove it"):
        open_key(tmp_path / "key")
    (tmp_path / "key").unlink()
    assert open_key(tmp_path / "key").key is not None


def test_a_patient_is_the_same_everywhere_and_no_study(tmp_path: Path) -> None:
    ours, theirs = open_key(tmp_path / "a"), open_key(tmp_path / "b")
    patient = ours.of("patient", "MRN-0042 ")
    assert patient == ours.of("patient", "MRN-0042")
    assert (
        len({patient, ours.of("study", "MRN-0042"), ours.of("image", "MRN-0042"), theirs.of("patient", "MRN-0042")})
        == 4
    )
    assert patient is not None
    assert "0042" not in patient
    assert len(patient) == 32


def test_keeping_changes_nothing() -> None:
    keep = Identities()
    assert keep.name == "keep"
    assert keep.of("patient", "10000032") == "10000032"
    assert keep.of("patient", "  ") is None
    assert keep.of("study", None) is None


def test_neither_name_nor_repr_tells_the_key(tmp_path: Path) -> None:
    keyed = open_key(tmp_path / "key")
    assert keyed.key is not None
    assert keyed.key.hex() not in repr(keyed) + keyed.name
    assert keyed.name == open_key(tmp_path / "key").name
    assert keyed.name != open_key(tmp_path / "other").name


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("not hexadecimal")
    with pytest.raises(UserError, match="no pseudonym key"):
        open_key(tmp_path / "key")
    (tmp_path / "short").write_text("ab" * 8)
    with pytest.raises(UserError, match="no pseudonym key"):
        open_key(tmp_path / "short")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    open_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        open_key(tmp_path / "key")


def test_an_environment_variable_names_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "named"))
    assert default_key_file() == tmp_path / "named"
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_key_file() == tmp_path / "cxrgaze" / "pseudonyms.key"
