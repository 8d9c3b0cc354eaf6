"""Walk a local folder: files in key order and, when listing an archive, whatever stands in the place of a file."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from cxrgaze_ray.schemas import Reason
from cxrgaze_ray.storage.base import ArchiveEntry, Survey, joined

NO_SUCH_PATH = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})
READ, SEARCH = 4, 1
"""Permissions that a mode gives to a class of users, as in its lowest octal digit."""

_ANNEX = re.compile(r"(?P<top>/.*?)?/\.git/(?:modules/.+/)?annex/objects/", re.DOTALL)
"""Where git-annex and datalad keep the contents of a repository and of those within it."""


class _Folder(NamedTuple):
    """A folder to be walked: its path, the start of its keys, and the real places of it and of those above it."""

    path: str
    lead: str
    real: tuple[str, ...]


class Walk:
    """Yields the entries below a folder.

    Parameters
    ----------
    root
        The folder.
    survey
        Collects what can't be an entry. Without one, links are followed wherever they lead, and anything that may not
        be listed or looked at is an error: the caller wants everything.
    """

    def __init__(self, root: str, survey: Survey | None = None) -> None:
        self._root, self._real, self._survey = root, os.path.realpath(root), survey
        self._denied = False

    def entries(self, lead: str = "") -> Iterator[ArchiveEntry]:
        """Yield entries in key order; `lead` is put before their keys. OSError if the root can't be listed."""
        open_folders = [self._scan(_Folder(self._root, lead, (self._real,)))]
        while open_folders:
            found = next(open_folders[-1], None)
            if found is None:
                open_folders.pop()
            elif isinstance(found, ArchiveEntry):
                yield found
            else:
                open_folders.append(self._scan(found))
        if self._denied:
            os.scandir(self._root).close()  # if access to the whole root was lost meanwhile, the entry is not to blame

    def _scan(self, folder: _Folder) -> Iterator[ArchiveEntry | _Folder]:
        try:
            with os.scandir(folder.path) as listing:
                entries = list(listing)
        except (FileNotFoundError, NotADirectoryError):  # gone meanwhile
            return
        except OSError as error:
            self._close(folder, error)
            return
        found = [one for entry in entries if (one := self._judge(entry, folder))]
        # A folder sorts as its name with a slash, so that local order equals S3's key order.
        yield from sorted(found, key=lambda one: one.lead if isinstance(one, _Folder) else one.key)

    def _close(self, folder: _Folder, error: OSError) -> None:
        """Note that a folder's contents can't all be known; raise the error if that folder is not its cause."""
        one = isinstance(error, PermissionError) or error.errno == errno.ENAMETOOLONG
        if self._survey is None or folder.path == self._root or not one:
            raise error
        self._denied = True
        if (key := folder.lead.removesuffix("/")) not in self._survey.closed[-1:]:
            self._survey.closed.append(key)

    def _judge(self, entry: os.DirEntry[str], folder: _Folder) -> ArchiveEntry | _Folder | None:
        """Return what a folder's entry is; None for a link to a folder that it lies in, and if it can't be known."""
        key = folder.lead + entry.name
        try:
            if entry.is_symlink() and not self._follows(entry.path, folder):
                return ArchiveEntry(key, None, Reason.LINK_OUTSIDE if _leads_anywhere(entry.path) else Reason.MISSING)
            if entry.is_dir():
                return self._enter(entry, folder)
            stat = entry.stat()
        except PermissionError as error:
            if self._survey is not None and way_is_shut(entry.path):
                self._denied = True
                return ArchiveEntry(key, None, Reason.UNREADABLE)
            self._close(folder, error)
            return None
        except OSError as error:
            return unread(key, entry.path, error)
        return told(key, entry.path, stat)

    def _follows(self, link: str, folder: _Folder) -> bool:
        if self._survey is None or self._survey.follow_links:
            return True
        target = os.path.realpath(link)
        annex = _ANNEX.match(target)
        return _within(target, self._real) or (annex is not None and _within(folder.real[-1], annex["top"] or "/"))

    def _enter(self, entry: os.DirEntry[str], folder: _Folder) -> _Folder | None:
        real = joined(folder.real[-1], entry.name)
        if entry.is_symlink():
            real = os.path.realpath(entry.path)
            if any(_within(above, real) for above in folder.real):
                if self._survey is not None:
                    self._survey.link_loops += 1
                return None
        return _Folder(entry.path, f"{folder.lead}{entry.name}/", (*folder.real, real))


def told(key: str, path: str, stat: os.stat_result) -> ArchiveEntry:
    """Return the entry of a path from its stat alone; nothing is opened."""
    if not S_ISREG(stat.st_mode):
        return ArchiveEntry(key, None, Reason.NOT_AN_IMAGE)
    # The mode is at hand; a user it excludes may still be root, or be admitted by an access control list.
    if mode_denies(stat, READ) and not os.access(path, os.R_OK, effective_ids=True):
        return ArchiveEntry(key, None, Reason.UNREADABLE)
    return ArchiveEntry(key, stat.st_size, local_etag(stat))


def unread(key: str, path: str, error: OSError) -> ArchiveEntry:
    """Return the entry of a path about which nothing can be known; raise the error again if it has another cause."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return ArchiveEntry(key, None, None)
    if error.errno == errno.ENAMETOOLONG and len(os.fsencode(path)) >= os.pathconf("/", "PC_PATH_MAX"):
        return ArchiveEntry(key, None, Reason.UNREADABLE)
    if error.errno in NO_SUCH_PATH:
        return ArchiveEntry(key, None, None)
    raise error


def local_etag(stat: os.stat_result) -> str:
    """Return an etag, which changes with a file's content."""
    return f"{stat.st_size:x}-{stat.st_mtime_ns:x}"


def mode_denies(stat: os.stat_result, want: int) -> bool:
    """Return whether a mode alone excludes this process's user, which a lost ticket or a dead server can't feign."""
    if stat.st_uid == os.geteuid():
        return not stat.st_mode >> 6 & want
    group = stat.st_gid == os.getegid() or stat.st_gid in os.getgroups()
    return not stat.st_mode >> (3 if group else 0) & want


def way_is_shut(path: str) -> bool:
    """Return whether the last folder on the way to a path that can be looked at is closed by its mode."""
    for folder in Path(os.path.realpath(path)).parents:
        with suppress(PermissionError, FileNotFoundError, NotADirectoryError):
            return mode_denies(folder.stat(), SEARCH)
    return False


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _leads_anywhere(link: str) -> bool:
    """Return whether there is something behind a link, or may be."""
    try:
        os.stat(link)  # noqa: PTH116
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
