"""The command line in this process, as the console script runs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cxrgaze_ray.cli import console, main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one line of JSON on stdout."""
        (line,) = self.out.splitlines()
        result: dict[str, Any] = json.loads(line)
        return result


Cxrgaze = Callable[..., Ended]


def forget_terminal() -> None:
    if console.terminal.cache_info().currsize:
        console.terminal().file.close()
        console.terminal.cache_clear()


@pytest.fixture
def cxrgaze(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Cxrgaze]:
    """Run `main` with arguments in this process, as the console script does."""
    monkeypatch.setattr(sys.modules["cxrgaze_ray.cli.main"], "set_ray_environment", lambda: None)
    forget_terminal()

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["cxrgaze", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            main()
        out, err = capfd.readouterr()
        return Ended(int(leaving.value.code or 0), out, err)

    yield run
    forget_terminal()
