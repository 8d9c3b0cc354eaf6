"""Processes of a cluster that outlives its command: told from others whose id is the same, found, and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from cxrgaze_ray.config import Record

_PROC = Path("/proc")
_LOOK_S = 0.1
_SESSION, _STARTED = 3, 19
"""Places in /proc/PID/stat, counted from the state, which follows the name in brackets."""


class Leader(Record):
    """A process, told from one that had or will have its id: by when it started, and since which start of the machine.

    Attributes
    ----------
    pid
        Its id; also that of its session.
    started
        Clock ticks from the machine's start to its own.
    boot
        The kernel's random name for this start of the machine.
    """

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Leader | None:
        """Return a running process; None if there is none of that id."""
        stat = stat_of(pid)
        return None if stat is None or stat[0] == "Z" else cls(pid=pid, started=int(stat[_STARTED]), boot=_boot())

    def lives(self) -> bool:
        """Return whether it is still running."""
        return Leader.of(self.pid) == self

    def sees(self, pid: int) -> bool:
        """Return whether a process is of its session: the kernel gives a session's id to no other while one lives."""
        stat = stat_of(pid)
        return stat is not None and int(stat[_SESSION]) == self.pid and int(stat[_STARTED]) >= self.started


def members(folder: Path, variable: str, leader: Leader | None) -> list[int]:
    """Return the processes of this user that belong to a cluster.

    Parameters
    ----------
    folder
        The cluster's own folder. Its processes have it in their environment; those that wrote a title over theirs are
        of the leader's session, and have files open there.
    variable
        Environment variable that holds a path below the folder.
    leader
        The first process of all, whether or not it lives; None if it is not known.
    """
    mark = f"{variable}={folder}/".encode()
    same_boot = leader is not None and leader.boot == _boot()
    found = []
    for pid in _own():
        in_session = same_boot and leader is not None and leader.sees(pid)
        if _marked(pid, mark) or (in_session and _uses(pid, folder)):
            found.append(pid)
    return found


def end(pids: Iterable[int], grace_s: float) -> int:
    """End processes, by force those that are there after some time; return how many needed it."""
    waiting = {one for pid in pids if (one := Leader.of(pid))}
    _signal(waiting, signal.SIGTERM)
    until = time.monotonic() + grace_s
    while (waiting := {one for one in waiting if one.lives()}) and time.monotonic() < until:
        time.sleep(_LOOK_S)
    _signal(waiting, signal.SIGKILL)
    return len(waiting)


def _signal(processes: Iterable[Leader], number: signal.Signals) -> None:
    for one in processes:
        with suppress(ProcessLookupError):
            os.kill(one.pid, number)


def _own() -> Iterator[int]:
    for entry in _PROC.iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and int(entry.name) != os.getpid() and entry.stat().st_uid == os.geteuid():
                yield int(entry.name)


def _marked(pid: int, mark: bytes) -> bool:
    with suppress(OSError):
        return any(one.startswith(mark) for one in (_PROC / str(pid) / "environ").read_bytes().split(b"\0"))
    return False


def _uses(pid: int, folder: Path) -> bool:
    with suppress(OSError):
        return any(_target(link).startswith(f"{folder}/") for link in (_PROC / str(pid) / "fd").iterdir())
    return False


def _target(link: Path) -> str:
    with suppress(OSError):
        return str(link.readlink())
    return ""


def stat_of(pid: int) -> list[str] | None:
    """Return what the kernel tells of a process, from its state on: the name before it may hold spaces."""
    with suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return None


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
