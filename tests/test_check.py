"""`make check`: style, types, and imports that point one way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.long_tests import SIXTHS, files_of

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


# not mypy: it takes minutes where nothing is cached, and CI runs the whole of `make check` first
@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["lint-imports"]], ids=" ".join
)
def test_it_passes(command: list[str]) -> None:
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_checks_all_of_it() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    for words in ("ruff check .", "ruff format --check .", "mypy", "lint-imports"):
        assert f"$(BIN)/{words}\n" in recipe + "\n"
    assert "\nmake check\nmake test\n" in (ROOT / ".ci/run").read_text()


def test_every_long_test_is_in_one_sixth_of_them() -> None:
    tests = ROOT / "tests"
    long = {
        str(path.relative_to(tests))
        for path in tests.rglob("test_*.py")
        if "pytest.mark.long" in path.read_text() and path != Path(__file__)
    }
    assert sorted(name for sixth in SIXTHS for name in sixth) == sorted(long)
    assert {name for commits in range(6) for name in files_of(commits)} == {f"tests/{name}" for name in long}
