"""How much memory this machine, or the container that this process is in, has left."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

_MACHINE = Path("/proc/meminfo")
_GROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of both versions of control groups: where, the limit, what is used, and the part of it that is given back at once."""


def machine_bytes(name: str) -> int:
    """Return what /proc/meminfo says under a name, in bytes.

    Raises
    ------
    OSError, ValueError, IndexError
        If the system does not say.
    """
    return int(_MACHINE.read_text().partition(f"{name}:")[2].split()[0]) * 1024


def free_memory() -> int | None:
    """Return the bytes that new processes could take before any is killed; None where the system doesn't say."""
    left = []
    with suppress(OSError, ValueError, IndexError):
        left.append(machine_bytes("MemAvailable"))
    for group, most, used, kept in _GROUPS:
        with suppress(OSError, ValueError):  # no such group, or one without a limit: "max"
            free = int((group / most).read_text()) - int((group / used).read_text())
            # files that were read are counted as used, and make way for whoever needs the room
            cached = re.search(rf"^{kept} (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
            left.append(free + int(cached[1]) if cached else free)
    return min(left, default=None)
