"""How a process of ours ends: with its own exit code, whatever threads of libraries are still at work.

Arrow reads ahead on threads of C++, also after the last row that was wanted. One that asks for the interpreter while
that is taken apart aborts the process: exit code 134 after work that is done. So nothing is taken apart.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def leaves_at_once() -> Iterator[None]:
    """End the process, once the block and all that libraries do on leaving is over, by the block's exit code.

    For a process's main function only, before libraries are imported: what is registered first to be done on leaving
    is done last, and this never returns.
    """
    code = [1]  # of an exception that nobody caught
    atexit.register(lambda: _leave(code[0]))
    try:
        with _unanswered_after():
            yield
        code[0] = 0
    except SystemExit as leaving:
        code[0] = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        raise


@contextmanager
def _unanswered_after() -> Iterator[None]:
    """Take no signal that asks for an end once the block is over: that end is under way, and would be torn."""
    try:
        yield
    finally:
        for asked in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(asked, signal.SIG_IGN)


def _leave(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads any more, or it is closed
            stream.flush()
    os._exit(code)
