"""The limit on a process's address space (`ulimit -v`), which batch systems set and libraries don't explain."""

from __future__ import annotations

import resource

from cxrgaze_ray.errors import EnvironmentFault

NEEDED_BYTES = 8 * 2**30
"""Address space that the largest process, ours or Ray's, maps."""

SHORTAGES = (MemoryError, ImportError, OSError, RuntimeError)
"""How a lack of address space shows: failed allocations, libraries that can't be mapped, threads that can't start."""


def address_space_fault() -> EnvironmentFault | None:
    """Return the error to raise if the address space is limited to less than is needed, else None."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or limit >= NEEDED_BYTES:
        return None
    return EnvironmentFault(
        f"The address space of a process is limited to {limit / 2**30:.1f} GiB here; {NEEDED_BYTES / 2**30:.0f} GiB "
        "are needed, most of which is never filled.",
        f"Raise the limit: ulimit -v {NEEDED_BYTES // 1024}, or unlimited.",
    )


def check_address_space() -> None:
    """Raise EnvironmentFault if the address space is limited to less than is needed."""
    if fault := address_space_fault():
        raise fault
