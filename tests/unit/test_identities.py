"""Keyed hashes: the same for a patient everywhere, nothing without the key."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.identities import KEY_VARIABLE, Identities, default_key_file, open_key


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pseudonyms.key"
    first, second = open_key(path), open_key(path)
    assert first == second
    assert first.key is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_key(tmp_path / "another.key") != first


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
