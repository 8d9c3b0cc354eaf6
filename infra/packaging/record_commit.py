"""Hatchling's hook: the wheel records the commit it was built from, which `cxrgaze --version` prints."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RecordCommit(BuildHookInterface[Any]):
    """Puts `commit.txt` into the package, where the source is a git checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file to what is built."""
        if version == "editable":
            return
        try:
            asked = subprocess.run(
                ["git", "-C", self.root, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        except OSError:  # no git here, as where an image is built
            return
        if asked.returncode == 0:
            self._folder = tempfile.TemporaryDirectory()
            recorded = Path(self._folder.name) / "commit.txt"
            recorded.write_text(asked.stdout)
            build_data["force_include"][str(recorded)] = "cxrgaze_ray/commit.txt"

    def finalize(self, _version: str, _build_data: dict[str, Any], _artifact_path: str) -> None:
        """Remove what was made for the build."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
