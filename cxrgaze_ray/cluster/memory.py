"""How much memory this machine, or the container that this process is in, has left."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_memory() -> int | None:
    """Return the bytes that new processes could take before any is killed; None where the system doesn't say."""
    left = []
    with suppress(OSError, ValueError, IndexError):
        left.append(int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]) * 1024)
    for most, used in _GROUPS:
        with suppress(OSError, ValueError):  # no such group, or one without a limit: "max"
            left.append(int(Path(most).read_text()) - int(Path(used).read_text()))
    return min(left, default=None)
