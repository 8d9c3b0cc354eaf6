"""Return freed memory to the system: left alone, glibc keeps what many request bodies took for as long as it likes."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
_LARGE = 2**15
"""Size in bytes from which an allocation is mapped by itself and returned once freed; parts of bodies are larger."""


def return_freed_memory() -> None:
    """Set up this process's allocator; where it is not glibc's, nothing changes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
