"""The commands of cxrgaze as users of this machine give them, each with a cluster of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from cxrgaze_ray.cluster.processes import members
from cxrgaze_ray.cluster.standing import Place, Standing

CLI = [sys.executable, "-m", "cxrgaze_ray"]
PRIVATE = "a-secret-of-the-one-who-submits"


class Commands:
    """The commands of one user of this machine, with a state folder and ports of their own."""

    def __init__(self, scratch: Path, state: Path, ports: list[int]) -> None:
        self.ports = ports
        self.variables = os.environ | {"XDG_STATE_HOME": str(state), "TMPDIR": str(scratch), "SECRET_OF_MINE": PRIVATE}
        for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            self.variables.pop(name, None)

    def __call__(self, *words: str, timeout: int = 400) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [*CLI, *words], capture_output=True, text=True, env=self.variables, timeout=timeout, check=False
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [*CLI, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.variables
        )

    def up(self, *words: str) -> dict[str, Any]:
        """Start the cluster."""
        head, dashboard, metrics = map(str, self.ports)
        how = ["--port", head, "--dashboard-port", dashboard, "--metrics-port", metrics, "--json"]
        done = self("cluster", "up", *how, "--object-store-mib", "200", *words)
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def standing(self) -> Standing:
        """Return the record of the node."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", self.variables["XDG_STATE_HOME"])
            found = Place.of_this_machine().read()
        assert found is not None
        return found

    def processes(self) -> list[psutil.Process]:
        """Return the node's processes."""
        standing = self.standing()
        return [psutil.Process(pid) for pid in members(standing.folder, "TMPDIR", standing.leader)]
