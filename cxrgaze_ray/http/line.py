"""The requests inside the proxy, and those that give way: a client that hardly sends keeps no place others need."""

from __future__ import annotations

import time
from typing import Protocol

_PRESS_EVERY_S = 0.25
"""Seconds between two searches for clients holding room that others need."""


class Pace:
    """How far a client is behind a rate: waiting for it uses up a grace period, and its bytes refill it.

    Parameters
    ----------
    grace_s
        Seconds of silence that a quick client is allowed.
    bytes_s
        The rate, in bytes per second.
    """

    def __init__(self, grace_s: float, bytes_s: float) -> None:
        self._grace_s, self._bytes_s, self._left = grace_s, bytes_s, grace_s
        self._since: float | None = None

    def wait(self) -> None:
        """Note that we wait for the client's bytes from now on."""
        self._since = time.monotonic()

    def came(self, size: int) -> None:
        """Note that the wait is over, and that `size` bytes came."""
        self._left = min(self._grace_s, -self.behind_s + size / self._bytes_s)
        self._since = None

    @property
    def behind_s(self) -> float:
        """Seconds that the client is behind; negative while it is not."""
        waited = 0.0 if self._since is None else time.monotonic() - self._since
        return waited - self._left


class Guest(Protocol):
    """A request whose body is arriving."""

    @property
    def behind_s(self) -> float:
        """Seconds that its client is behind; negative if it is quick, or all has come."""

    @property
    def held(self) -> int:
        """Bytes of its body."""

    def give_way(self) -> None:
        """End the request."""


class Line:
    """The requests inside, up to a bound; the slowest is ended when its place, or the room its bytes take, is needed.

    Parameters
    ----------
    limit
        Most requests at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside: set[Guest] = set()
        self._leaving: set[Guest] = set()
        self._pressed = 0.0

    def has_place(self) -> bool:
        """Return whether one more request may come in; if there is no place, the slowest gives way."""
        if len(self._inside) < self._limit:
            return True
        slowest = max(self._inside, key=lambda guest: guest.behind_s)
        if slowest.behind_s <= 0:
            return False
        self._end(slowest)
        return True

    def enter(self, guest: Guest) -> None:
        """Let a request in."""
        self._inside.add(guest)

    def leave(self, guest: Guest) -> None:
        """Let a request out."""
        self._inside.discard(guest)
        self._leaving.discard(guest)

    def press(self, guest: Guest, lacking: int) -> None:
        """Let the slowest give way to a client that waits for room, until what they hold is what is lacking.

        Slow clients press nobody: where all are slow, they would end each other for ever.
        """
        now = time.monotonic()
        if guest.behind_s > 0 or now - self._pressed < _PRESS_EVERY_S:
            return
        self._pressed = now
        lacking -= sum(one.held for one in self._leaving)
        for slow in sorted(self._inside, key=lambda one: one.behind_s, reverse=True):
            if lacking <= 0 or slow.behind_s <= 0:
                return
            lacking -= slow.held
            self._end(slow)

    def _end(self, guest: Guest) -> None:
        self._inside.discard(guest)
        self._leaving.add(guest)
        guest.give_way()
