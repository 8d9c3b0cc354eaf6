"""The folder of a private cluster, which nobody else on the machine may enter, and which holds all it leaves behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cxrgaze_ray.errors import EnvironmentFault

_PREFIX = "cxrgaze-"
_RAY, _SCRATCH, _LOG = "ray", "tmp", "cxrgaze.log"

_SOCKET_BYTES = 107
"""Longest path of a socket, in bytes: Linux's limit."""

_LONGEST_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""Longest path that Ray appends to its folder's."""

_OURS_BYTES = len(f"/{_PREFIX}12345678/{_RAY}")
LONGEST_PARENT = _SOCKET_BYTES - len(_LONGEST_SOCKET) - _OURS_BYTES
"""Longest path that our folder may lie in, in bytes."""

_SHORT = ("/tmp", "/var/tmp")


@dataclass(frozen=True)
class SessionFolder:
    """A folder of our own, mode 0700, and its contents.

    Attributes
    ----------
    root
        The folder.
    """

    root: Path

    @property
    def ray(self) -> Path:
        """Ray's folder: Ray opens it, and all below, to everybody (0777), so it must not be the root."""
        return self.root / _RAY

    @property
    def log_file(self) -> Path:
        """File that takes the output of this process and of a head."""
        return self.root / _LOG

    @property
    def scratch(self) -> Path:
        """Folder for the temporary files of its processes; whoever starts them makes it."""
        return self.root / _SCRATCH

    @contextmanager
    def takes_scratch(self) -> Iterator[None]:
        """Have processes started in the block put their temporary files here: a killed one leaves them behind."""
        scratch, before = self.scratch, os.environ.get("TMPDIR")
        scratch.mkdir(exist_ok=True)
        os.environ["TMPDIR"] = str(scratch)
        try:
            yield
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


def make_session_folder() -> SessionFolder:
    """Make the folder where temporary files go, or in a shorter place if that path is too long for Ray's sockets.

    Raises
    ------
    EnvironmentFault
        If no place is short enough and writable.
    """
    usual = tempfile.gettempdir()
    for parent in (usual, *_SHORT):
        if len(os.fsencode(parent)) <= LONGEST_PARENT:
            try:
                return SessionFolder(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)))
            except OSError:
                continue  # read-only, full or missing
    raise EnvironmentFault(
        f"Ray's sockets have no place: {usual} and {' and '.join(_SHORT)} have too long a path or can't be written.",
        f"Set TMPDIR to a folder that you can write, of at most {LONGEST_PARENT} characters.",
    )
