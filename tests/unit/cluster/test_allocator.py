"""Freed memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from cxrgaze_ray.cluster.allocator import return_freed_memory

def held():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) // 1024

if sys.argv[1] == "returned":
    return_freed_memory()
before = held()
size = 100_000
parts = [b"x" * size for _ in range(3000)]
full = held() - before
parts = parts[::50]
print(full, held() - before)
"""


@pytest.mark.parametrize("how", ["kept", "returned"])
def test_what_many_bodies_took_goes_back(how: str) -> None:
    """Also where some of them live on between: that it is kept otherwise shows that there is something to do."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True, timeout=60)
    full, left = map(int, ended.stdout.split())
    assert full > 250
    assert (left < 50) is (how == "returned")
