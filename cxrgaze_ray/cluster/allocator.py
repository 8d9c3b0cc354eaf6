"""Memory that was freed goes back to the system: by itself, glibc keeps what many bodies took as long as it likes."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
_LARGE = 2**15
"""Bytes from which an allocation is one of its own, and gone once freed; parts of bodies are larger."""


def return_freed_memory() -> None:
    """Set this process's allocator up; where it is not glibc's, nothing is changed."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
