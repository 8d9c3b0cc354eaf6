"""Batches made ahead take nothing from the thread that learns from them."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import torch
from cxrgaze_ray.training.ahead import Ahead
from cxrgaze_ray.training.stages import Batch

torch.set_num_threads(3)
empty = torch.empty(0)
ahead, seen = Ahead(2), []

def make(item):
    seen.extend(ahead.each(lambda _: torch.get_num_threads(), range(2)))
    return Batch(empty, empty, empty)

assert len(list(ahead(make, range(2)))) == 2
assert set(seen) == {1}, seen
print(torch.get_num_threads())
"""


def test_the_thread_that_learns_keeps_its_cores() -> None:
    """In a process of its own, whose first thread has computed nothing: only then was its number lowered too."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("3", 0), done.stderr
