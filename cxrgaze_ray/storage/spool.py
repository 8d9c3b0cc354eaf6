"""Bytes on the local disk, for readers that work on threads of their own.

Arrow reads a CSV ahead, on a thread that outlives an error. Where that thread reads a Python object it needs the
interpreter, and aborts the process that is just ending; a file it reads by itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from cxrgaze_ray.errors import StoreUnavailable


@contextmanager
def spooled(blocks: Iterable[bytes]) -> Iterator[str]:
    """Write blocks to a file that has no name, and give a path to read it by meanwhile; nothing of it is left after.

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
