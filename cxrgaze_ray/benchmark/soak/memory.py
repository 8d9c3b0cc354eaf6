"""Memory of the processes that serve, again and again, and whether it grew."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Self

from cxrgaze_ray.benchmark.processes import private_bytes
from cxrgaze_ray.benchmark.soak.cluster import serving_processes

_EVERY_S = 1.0
_FLAT_SHARE, _FLAT_BYTES = 0.10, 32 * 2**20
"""What may come and go: garbage that is not collected yet, and pages that the allocator keeps."""


@dataclass(frozen=True)
class Look:
    """What the processes held at one moment: private bytes by role, and which processes they were."""

    when: float
    held: dict[str, int]
    pids: frozenset[int]


@dataclass(frozen=True)
class Held:
    """Private memory of all processes of a role together, in bytes: soon after the beginning and at the end."""

    role: str
    first: float
    last: float

    @property
    def flat(self) -> bool:
        """Whether it grew by no more than comes and goes."""
        return self.last - self.first <= max(_FLAT_SHARE * self.first, _FLAT_BYTES)


@dataclass
class MemoryLog:
    """Looks at the processes from its start to its end."""

    looks: list[Look] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="soak-memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_S):
            held: Counter[str] = Counter()
            processes = serving_processes()
            for pid, role in processes.items():
                with suppress(OSError):  # it ended just now
                    held[role] += private_bytes(pid)
            self.looks.append(Look(time.monotonic(), dict(held), frozenset(processes)))


def held_by_role(looks: Sequence[Look]) -> list[Held]:
    """Return what each role held at the beginning and at the end: medians of the second and of the last fifth.

    The first fifth is left out, in which what is loaded at first use is loaded.
    """
    fifth = max(1, len(looks) // 5)
    early, late = looks[fifth : 2 * fifth] or looks[:1], looks[-fifth:]
    roles = sorted({role for look in (*early, *late) for role in look.held})
    return [
        Held(role, median(look.held.get(role, 0) for look in early), median(look.held.get(role, 0) for look in late))
        for role in roles
    ]
