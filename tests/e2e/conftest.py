"""One demo for the session."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

IMAGES, UNSEEN = 60, 24


@dataclass(frozen=True)
class Demo:
    """What a demo left behind, and what it said."""

    folder: Path
    out: str
    err: str


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Run `cxrgaze demo`, smaller than by default, as a user would."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-m", "cxrgaze_ray", "demo", "--dir", str(folder)]
    command += ["--images", str(IMAGES), "--unseen", str(UNSEEN), "--seed", "4"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=580, check=False)
    assert done.returncode == 0, done.stderr
    return Demo(folder, done.stdout, done.stderr)
