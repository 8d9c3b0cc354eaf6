"""One driver at a time in a folder: a lease that another may take over once its holder's heartbeat has stopped."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Self

from cxrgaze_ray.errors import CxrgazeError, EnvironmentFault, RunConflict, StoreNotFound, StoreUnavailable
from cxrgaze_ray.storage import Store

HEARTBEAT_S = 2.0
STALE_S = 10.0
_LOOK_S = 0.5
_LONG_S = 2.0
"""The longest time, in seconds, that two successive looks vouch for: a driver asleep for longer saw nothing of it."""


class Lease:
    """Holds ``lease/<epoch>.json`` of a folder while a driver works there.

    The claim is one put_if_absent, so two drivers can't both hold an epoch. Staleness is judged by the observer's
    own clock: a heartbeat that did not change for `STALE_S` seconds of looks that all succeeded is dead, whatever its
    writer's clock said. While the store is away no driver can beat, so an outage restarts the wait. A driver that could
    not beat for long works on if nobody took over: `check` finds out, before each commit.

    Parameters
    ----------
    store
        The folder.
    on_wait
        Called once if another driver's heartbeat must be watched, with the seconds that this takes.
    what
        What the folder holds, for messages.
    hint
        Advice to a driver that finds another one at work, for messages.
    """

    def __init__(
        self,
        store: Store,
        on_wait: Callable[[float], None] = lambda _: None,
        *,
        what: str = "folder",
        hint: str = "Wait for it to end.",
    ) -> None:
        self._store = store
        self._on_wait = on_wait
        self._what = what
        self._hint = hint
        self._nonce = uuid.uuid4().hex
        self._epoch = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._summary: dict[str, float] = {}

    def __enter__(self) -> Self:
        latest = self._latest()
        if latest and _look(self._store, latest) is not None:
            self._watch(latest)
        # epochs are never reused: a driver that was taken for dead finds its successor's file, in `check`
        self._epoch = latest + 1
        # a put whose answer was lost is retried, and then finds its own claim
        if not self._store.put_if_absent(self._key("json"), self._nonce.encode()) and not self._ours():
            raise RunConflict(f"Another driver took this {self._what} just now.", self._hint)
        self._beat(self._store, 0)
        self._thread = threading.Thread(target=self._keep_beating, daemon=True, name="lease")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=60)  # a beat that lands later does no harm: `_look` asks for `released` first
        # a store whose failure ended the work has had its retries already
        store = self._store if kind is None else self._store.without_retries()
        try:
            store.put(self._key("released"), json.dumps(self._summary).encode())
        except EnvironmentFault:
            if kind is None:
                raise  # otherwise the fault that ended the run is the one to report

    def note(self, **figures: float) -> None:
        """Keep this driver's figures (seconds, images), written when it releases the lease."""
        self._summary.update(figures)

    @property
    def figures(self) -> dict[str, float]:
        """The figures this driver has noted so far."""
        return dict(self._summary)

    def check(self) -> None:
        """Raise RunConflict if a later driver took the folder over: this one must commit nothing more.

        Another may still take over between this and the commit: anything that must not happen twice has to be a
        put_if_absent.
        """
        if self._store.exists(f"lease/{self._epoch + 1:08d}.json"):
            raise RunConflict(f"Another driver took over this {self._what}.", "It works on there; nothing is lost.")

    def _key(self, kind: str) -> str:
        return f"lease/{self._epoch:08d}.{kind}"

    def _ours(self) -> bool:
        return self._store.get(self._key("json")) == self._nonce.encode()

    def _latest(self) -> int:
        try:
            return max(
                (int(info.key[6:14]) for info in self._store.list("lease/") if info.key.endswith(".json")), default=0
            )
        except StoreNotFound:
            return 0  # nobody ever held it

    def _watch(self, epoch: int) -> None:
        """Return once the holder of an epoch released it or is dead; RunConflict if its heart beats."""
        self._on_wait(STALE_S)
        # only looks that succeeded count: this driver may have slept, and a store that was away let nobody beat
        first, last, still_s = _look(self._store, epoch), time.monotonic(), 0.0
        while first is not None and still_s < STALE_S:
            time.sleep(_LOOK_S)
            try:
                beat = _look(self._store.without_retries(), epoch)
                still_s += min(time.monotonic() - last, _LONG_S)
            except StoreUnavailable:
                beat, still_s = _look(self._store, epoch), 0.0
            last = time.monotonic()
            if beat is None:
                return
            if beat != first:
                raise RunConflict(f"Another driver is working on this {self._what}.", self._hint)

    def _beat(self, store: Store, count: int) -> None:
        store.put(self._key("heartbeat"), str(count).encode())

    def _keep_beating(self) -> None:
        """Beat with one short attempt each time, so that the first beat after an outage comes soon."""
        count, store = 0, self._store.without_retries()
        while not self._stop.wait(HEARTBEAT_S):
            count += 1
            try:
                self._beat(store, count)
            except CxrgazeError:
                continue  # the driver's own reads and writes decide whether the store is gone


def _look(store: Store, epoch: int) -> bytes | None:
    """Return the last heartbeat of an epoch, empty before the first one; None if its holder released it."""
    if store.exists(f"lease/{epoch:08d}.released"):
        return None
    try:
        return store.get(f"lease/{epoch:08d}.heartbeat")
    except StoreNotFound:
        return b""


def drivers_summary(store: Store) -> dict[str, float]:
    """Sum the figures of every driver that released its lease of a folder."""
    total: dict[str, float] = {}
    for info in store.list("lease/"):
        if info.key.endswith(".released"):
            for name, value in json.loads(store.get(info.key)).items():
                total[name] = total.get(name, 0.0) + value
    return total
