"""Find out what a store really does, by trying it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cxrgaze_ray.errors import CxrgazeError, UserError
from cxrgaze_ray.storage.base import Store
from cxrgaze_ray.storage.local import TEMPORARY_PREFIX, LocalStore


@dataclass(frozen=True)
class Probe:
    """The result of a probe.

    Attributes
    ----------
    conditional
        Whether a conditional put "works" (commits are safe), "is IGNORED" (two drivers could both win), or how it
        fails where a plain put does not.
    put_s, get_s
        Seconds that one small object took.
    """

    conditional: str
    put_s: float
    get_s: float

    @property
    def sound(self) -> bool:
        """Whether runs and registries are safe in this store."""
        return self.conditional == "works"

    def __str__(self) -> str:
        return f"conditional put {self.conditional}; put {self.put_s * 1e3:.1f} ms, get {self.get_s * 1e3:.1f} ms"


def probe(store: Store) -> Probe:
    """Put, get and conditionally put a small object, one attempt each, and leave nothing behind.

    Raises
    ------
    CxrgazeError
        If the store can't be written or read at all.
    """
    hasty = store.without_retries()
    with _scratch_key(hasty) as key:
        hasty.delete(key)  # connects, so that the figures measure only requests
        start = time.perf_counter()
        hasty.put(key, b"a")
        written = time.perf_counter()
        hasty.get(key)
        read = time.perf_counter()
        return Probe(_conditional(hasty, key), written - start, read - written)


def check_writable(store: Store) -> None:
    """Write a small object and remove it again, so that no work begins whose results can't be written.

    Raises
    ------
    UserError
        If the folder can't exist, or a file stands where a folder is needed.
    EnvironmentFault
        If nothing can be written there.
    """
    for folder in _way_down(store):
        if _exists(folder) and not folder.is_dir():
            raise UserError(f"{folder} is a file: nothing can be written below it.", "Choose another folder.")
    with _scratch_key(store) as key:
        try:
            store.put(key, b"")
        except CxrgazeError as fault:
            why = getattr(fault.__cause__, "strerror", None) or fault.message.rstrip(".")
            raise type(fault)(f"Nothing can be written to {store.uri}: {why}.", fault.hint) from fault


def _conditional(store: Store, key: str) -> str:
    """Write twice on condition that the object does not exist: the second write must be refused."""
    store.delete(key)
    try:
        first, second = store.put_if_absent(key, b"a"), store.put_if_absent(key, b"b")
    except CxrgazeError as error:
        return f"is refused: {error}"
    if not first:
        return "is refused though there is no object yet"
    return "works" if not second and store.get(key) == b"a" else "is IGNORED"


@contextmanager
def _scratch_key(store: Store) -> Iterator[str]:
    key = f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    missing = _missing_folders(store)
    try:
        yield key
    finally:
        with suppress(CxrgazeError):
            store.delete(key)
        for folder in missing:
            with suppress(OSError):  # somebody uses it by now
                folder.rmdir()


def _missing_folders(store: Store) -> list[Path]:
    """Return the folders that a first write would make, the innermost first."""
    return [folder for folder in _way_down(store) if not _exists(folder)]


def _way_down(store: Store) -> list[Path]:
    """Return a local store's folder and those it lies in, the innermost first; none for a bucket."""
    return [store.root, *store.root.parents] if isinstance(store, LocalStore) else []


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder on the way can't be looked into
        return False
