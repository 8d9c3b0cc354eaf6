"""How often one client may ask: its flood, or its guesses of a token, cost nobody else anything."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_CLIENTS = 10_000
"""Clients whose buckets are kept: those that were silent longest are forgotten, and begin with a full one."""


class Buckets:
    """A bucket for each client: it holds ``burst`` and is refilled with ``rate`` a second.

    Parameters
    ----------
    rate, burst
        What a client may take a second in the long run, and at once; a rate of 0 sets no limit.
    now
        The clock, which tests replace.
    """

    def __init__(self, rate: float, burst: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._now = rate, burst, now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what was left, and when

    def wait_s(self, client: str) -> float:
        """Return the seconds until the client may take one, 0 if it may now."""
        return max(0.0, (1 - self._left(client)) / self._rate) if self._rate else 0.0

    def take(self, client: str) -> None:
        """Take one from the client's bucket; what it does not hold is not owed."""
        self._buckets[client] = (max(0.0, self._left(client) - 1), self._now())
        self._buckets.move_to_end(client)
        while len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)

    def _left(self, client: str) -> float:
        left, since = self._buckets.get(client, (self._burst, self._now()))
        return min(self._burst, left + (self._now() - since) * self._rate)


def client_of(host: str) -> str | None:
    """Return whom an address stands for, None for this machine: its own users, and a reverse proxy that has limits.

    Whoever has one address of IPv6 has the 64 bits of its network.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.is_loopback:
        return None
    return str(ipaddress.ip_network((mapped, 64), strict=False)) if mapped.version == 6 else str(mapped)
