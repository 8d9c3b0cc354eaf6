"""How much memory is left, as the system's files say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrgaze_ray.cluster import memory

GIB = 2**30


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "meminfo").write_text(f"MemTotal: {16 * GIB // 1024} kB\nMemAvailable:   {12 * GIB // 1024} kB\n")
    monkeypatch.setattr(memory, "_MACHINE", tmp_path / "meminfo")
    (_, *second), (_, *first) = memory._GROUPS
    monkeypatch.setattr(memory, "_GROUPS", ((tmp_path, *second), (tmp_path / "memory", *first)))
    return tmp_path


def test_a_machine_without_groups_says_what_is_available() -> None:
    assert memory.free_memory() == 12 * GIB


def test_a_container_has_its_limit_less_what_it_uses_but_for_files_it_has_read(system: Path) -> None:
    (system / "memory.max").write_text(f"{8 * GIB}\n")
    (system / "memory.current").write_text(f"{7 * GIB}\n")
    (system / "memory.stat").write_text(f"anon {2 * GIB}\nfile {5 * GIB}\ninactive_file {4 * GIB}\nactive_file {GIB}\n")
    assert memory.free_memory() == 5 * GIB


def test_a_container_without_a_limit_has_what_the_machine_has(system: Path) -> None:
    (system / "memory.max").write_text("max\n")
    (system / "memory.current").write_text(f"{7 * GIB}\n")
    assert memory.free_memory() == 12 * GIB


def test_the_first_version_s_limit_counts_too_and_nothing_is_said_where_nothing_can_be_read(system: Path) -> None:
    (folder := system / "memory").mkdir()
    (folder / "memory.limit_in_bytes").write_text(f"{3 * GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{GIB}\n")
    (folder / "memory.stat").write_text(f"inactive_file 1\ntotal_inactive_file {GIB // 2}\n")
    assert memory.free_memory() == 2.5 * GIB
    (folder / "memory.limit_in_bytes").unlink()
    (system / "meminfo").unlink()
    assert memory.free_memory() is None
