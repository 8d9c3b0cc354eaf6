"""Bytes on the local disk, for readers that work on threads of their own.

Arrow reads a CSV ahead, on a thread that outlives an error. Where that thread reads a Python object it needs the
interpreter, and aborts a process that is just ending; a file needs no interpreter.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from cxrgaze_ray.errors import StoreUnavailable


@contextmanager
def spooled(blocks: Iterable[bytes]) -> Iterator[str]:
    """Write blocks to an unnamed file, and yield a path to read it by; nothing of it remains afterwards.

    Raises
    ------
    StoreUnavailable
        If the temporary folder can't be written.
    """
    with ExitStack() as opened:
        with _told():
            file = opened.enter_context(tempfile.TemporaryFile())
        for block in blocks:
            with _told():
                file.write(block)
        with _told():
            file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"The temporary folder can't be written: {error.strerror}.", "Make room there, or name another in TMPDIR."
        ) from error
