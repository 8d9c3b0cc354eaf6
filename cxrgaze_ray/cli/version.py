"""What `cxrgaze --version` prints."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cxrgaze_ray import __version__

_PACKAGE = Path(__file__).parents[1]


def version_line() -> str:
    """Return the version, and the commit: the one that a wheel was built from, or a checkout's."""
    commit = _commit()
    return f"cxrgaze {__version__}" + (f" (commit {commit})" if commit else "")


def _commit() -> str:
    recorded = _PACKAGE / "commit.txt"
    if recorded.exists():
        return recorded.read_text().strip()
    if not (_PACKAGE.parent / ".git").exists():
        return ""
    try:
        asked = subprocess.run(
            ["git", "-C", str(_PACKAGE.parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True, text=True, check=False, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):  # no git here
        return ""
    return asked.stdout.strip()
