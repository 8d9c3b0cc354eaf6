"""Programs of Debian that judge what we write: dcmtk and dicom3tools, Prometheus and Alertmanager."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread

_NOT_OURS = ("<99CXRGAZE>", "needed to build DICOMDIR", "Retired Person Name form", "empty when actually unknown")


def find_tool(name: str) -> str:
    """Return where a program is; a missing one skips the test, and fails it in CI."""
    tool = shutil.which(name)
    if tool is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing")
        pytest.skip(f"needs {name}, from one of the Debian packages in .ci/run")
    return tool


def run_tool(name: str, *arguments: object) -> str:
    """Run a validator and return all it says."""
    done = subprocess.run([find_tool(name), *map(str, arguments)], capture_output=True, check=False, timeout=60)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert name == "dciodvfy" or done.returncode == 0, said
    return said


def check_object(path: Path) -> list[str]:
    """Check a DICOM object's conformance; return the warnings that are about us.

    Left out are those of our private coding scheme, and of what the source does not say or says in an old way.
    """
    lines = run_tool("dciodvfy", path).splitlines()
    assert not [line for line in lines if line.startswith("Error")], "\n".join(lines)
    run_tool("dcmdump", path)
    if dcmread(path, specific_tags=["Modality"]).Modality == "SR":
        said = run_tool("dsrdump", path)  # reads the whole tree of content, as a viewer of reports does
        assert not [line for line in said.splitlines() if line.startswith(("E: ", "F: "))], said
    return [line for line in lines if line.startswith("Warning") and not any(mark in line for mark in _NOT_OURS)]
