"""One decoding process: started, asked, and ended when an answer takes too long."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import cxrgaze_ray
from cxrgaze_ray.errors import EnvironmentFault
from cxrgaze_ray.radiograph.decoding.protocol import ProtocolError, receive, send

START_S = 120.0
"""Longest time for a process to be ready, in seconds: from a cold disk it loads its libraries slowly."""

_DYING_S = 10.0
"""Between a process closing its pipes and its end: the kernel frees its memory."""

_PIPE_BYTES = 2**20
"""Linux's own limit for pipes of unprivileged users."""

_INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD")
"""What a decoding process inherits, beside PYTHON's own: it handles hostile bytes, so it must not hold credentials."""

# A thread pool's buffers count as address space, on many cores more than the limit.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Ended(Exception):
    """The process ended instead of answering.

    Attributes
    ----------
    late
        The answer took too long.
    killed
        Somebody else killed it: the kernel short of memory, or a person.
    """

    def __init__(self, status: int | None, *, late: bool) -> None:
        super().__init__(status)
        self.late = late or status == -signal.SIGALRM
        self.killed = not self.late and status == -signal.SIGKILL


class SlowStart(EnvironmentFault):
    """The process was not ready in time."""


class Child:
    """A decoding process that is ready for requests.

    Parameters
    ----------
    command
        Command line of the process.

    Raises
    ------
    SlowStart
        If it is not ready in time.
    EnvironmentFault
        If it does not start at all: no image's fault either.
    """

    def __init__(self, command: Sequence[str]) -> None:
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # native decoders print what they stumble over, and that is a patient's
                env=_environment(),
            )
        except OSError as error:
            raise _not_started(type(error).__name__) from None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._requests, self._answers = self.process.stdin, self.process.stdout
        for pipe in (self._requests, self._answers):
            _widen(pipe)
        try:
            with self._watch(START_S):
                receive(self._answers, max_body=0)
        except Ended as ended:
            if ended.late:
                raise SlowStart(
                    f"A decoding process was not ready within {START_S:.0f} s.",
                    "The machine is too busy: stop other programs, or give the work fewer workers, and start it again.",
                ) from None
            raise _not_started(f"status {ended}") from None

    def is_alive(self) -> bool:
        """Say whether it can be asked."""
        return self.process.poll() is None

    def ask(
        self, header: dict[str, Any], data: bytes, *, limit_s: float, max_body: int
    ) -> tuple[dict[str, Any], bytes]:
        """Send a request and return its answer.

        Raises
        ------
        Ended
            If the process ended instead; whatever else is raised ends it too.
        """
        with self._watch(limit_s):
            send(self._requests, header, data)
            return receive(self._answers, max_body)

    def end(self) -> None:
        """End it, and give back its pipes and its place in the process table."""
        self.process.kill()
        self.process.wait()
        for stream in (self._requests, self._answers):
            with suppress(BrokenPipeError):  # what was left to write has no reader
                stream.close()

    @contextmanager
    def _watch(self, limit_s: float) -> Iterator[None]:
        """End the process if the work takes longer, or is broken off: its answer must not be the next image's."""
        watchdog = _Watchdog(self.process, limit_s)
        try:
            yield
        except (EOFError, BrokenPipeError):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_DYING_S)
            status = self.process.returncode
            self.end()
            raise Ended(status, late=watchdog.stop()) from None
        except ProtocolError:
            self.end()
            raise Ended(None, late=False) from None
        except BaseException:
            self.end()
            raise
        finally:
            if watchdog.stop():  # the answer may have come all the same, but the process is dying
                self.end()


class _Watchdog:
    """Kills a process that takes too long; once stopped, it never does."""

    def __init__(self, process: subprocess.Popen[bytes], limit_s: float) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._stopped = self._fired = False
        self._timer = threading.Timer(limit_s, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> bool:
        """Stop it; return whether it has killed the process."""
        self._timer.cancel()
        with self._lock:
            self._stopped = True
            return self._fired

    def _fire(self) -> None:
        with self._lock:
            if not self._stopped:
                self._fired = True
                self._process.kill()


def _widen(pipe: IO[bytes]) -> None:
    """Let an image through in one go: at 64 KiB a time the two processes wait for each other all the while."""
    with suppress(AttributeError, OSError):  # not Linux, or the user's pipes have no more memory
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("PYTHON")}
    return kept | _ONE_THREAD | {"PYTHONPATH": _module_path()}


def _module_path() -> str:
    """Return where the process finds this package, installed or not: it does not look into the working folder."""
    ours = str(Path(cxrgaze_ray.__file__).parents[1])
    return os.pathsep.join([ours, *filter(None, [os.environ.get("PYTHONPATH")])])


def _not_started(how: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"A decoding process does not start ({how}).", "Look at the machine's memory and at `cxrgaze doctor`."
    )
