"""Work without root's rights, to which no mode applies: what a mode forbids is then really forbidden."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be nobody inside; who is not root stays who he is, and modes bind him anyway."""
    if os.geteuid() != 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(_NOBODY)
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


@contextmanager
def public_folder() -> Iterator[Path]:
    """Give a folder that nobody may enter, too, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for path, _, _ in os.walk(folder):
            for one in Path(path).iterdir():
                if one.is_dir() and not one.is_symlink():
                    one.chmod(0o700)
        shutil.rmtree(folder)
