"""A bound on all request bodies held at once: when it is reached, further clients must wait before they send more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

_READ = 2**18
"""Bytes set aside for one read: the server hands on no more at a time, or hardly more."""

_PRESS_EVERY_S = 0.25
"""Seconds after which a waiting request presses again: a client that was quick may be slow by now."""


class Share:
    """The bytes that one request holds."""

    def __init__(self) -> None:
        self.held = 0
        self.turn: asyncio.Future[None] | None = None


class Room:
    """A bound on the bytes of all bodies together. The oldest request may always go on, so that one can finish.

    Whoever came first goes on first: if all went on in turn, many clients would fill the room with beginnings, and
    those that could be answered would come one at a time.

    Parameters
    ----------
    limit
        The bound in bytes; the oldest request's body may exceed it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._shares: dict[Share, None] = {}  # in the order they came
        self._waiting: set[Share] = set()
        self.held = 0

    def enter(self) -> Share:
        """Take a share, empty at first."""
        share = Share()
        self._shares[share] = None
        return share

    def leave(self, share: Share) -> None:
        """Give back all that a share holds, and let others go on."""
        self._shares.pop(share, None)
        self.held -= share.held
        self._wake()

    async def before_read(self, share: Share, press: Callable[[int], None] = lambda _: None) -> None:
        """Wait until there is room for one more read, and set it aside.

        Parameters
        ----------
        share
            Share of the request that wants to read.
        press
            Called now and then while there is no room, with the bytes that waiting requests lack.
        """
        while not self._may(share):
            share.turn = asyncio.get_running_loop().create_future()
            self._waiting.add(share)
            try:
                press(len(self._waiting) * _READ)
                await asyncio.wait({share.turn}, timeout=_PRESS_EVERY_S)
            finally:
                self._waiting.discard(share)
        self._hold(share, _READ)

    def after_read(self, share: Share, size: int) -> None:
        """Hold the bytes that were read instead of those set aside for them."""
        self._hold(share, size - _READ)
        self._wake()

    def _hold(self, share: Share, more: int) -> None:
        share.held += more
        self.held += more

    def _may(self, share: Share) -> bool:
        return self.held + _READ <= self._limit or share is self._oldest

    @property
    def _oldest(self) -> Share | None:
        return next(iter(self._shares), None)

    def _wake(self) -> None:
        """Let the oldest request go on, and as many others as there is room for."""
        if not self._waiting:
            return  # the case after most reads: no need to search all shares
        room = max(0, (self._limit - self.held) // _READ)
        in_turn = (share for share in self._shares if share in self._waiting)
        for share in [*islice(in_turn, room), self._oldest]:
            if share is not None and share.turn is not None and not share.turn.done():
                share.turn.set_result(None)
