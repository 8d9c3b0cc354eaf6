"""Too little address space is told in one line, whichever library is the first to fail."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cxrgaze_ray.cluster.address_space import NEEDED_BYTES, address_space_fault, check_address_space
from cxrgaze_ray.errors import EnvironmentFault


def limited(kib: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'ulimit -v {kib} && exec "$0" "$@"', sys.executable, "-m", "cxrgaze_ray", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_gibibyte_is_told_to_be_too_little(tmp_path: Path) -> None:
    ended = limited(2**20, "models", "init", "--registry", str(tmp_path))
    assert ended.returncode == 4, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("cxrgaze: ")]
    assert "limited to 1.0 GiB" in line
    assert f"ulimit -v {NEEDED_BYTES // 1024}" in line
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("limit", "enough"),
    [(resource.RLIM_INFINITY, True), (NEEDED_BYTES, True), (NEEDED_BYTES - 1, False), (2**30, False)],
)
def test_the_limit_is_looked_at_before_ray_starts(limit: int, enough: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, resource.RLIM_INFINITY))
    assert (address_space_fault() is None) == enough
    if enough:
        check_address_space()
    else:
        with pytest.raises(EnvironmentFault, match="address space"):
            check_address_space()
