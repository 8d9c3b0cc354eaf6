"""Buckets: what a client may take, and how soon again; and who is a client."""

from __future__ import annotations

import pytest

from cxrgaze_ray.http import clients
from cxrgaze_ray.http.clients import Buckets, client_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_what_it_holds_and_is_refilled_in_time() -> None:
    clock = Clock()
    buckets = Buckets(0.5, 2, clock)
    waits = []
    for _ in range(3):
        waits.append(buckets.wait_s("a"))
        buckets.take("a")
    assert waits == [0, 0, 2]
    assert buckets.wait_s("b") == 0
    clock.now = 1.0
    assert buckets.wait_s("a") == 1
    clock.now = 1000.0
    buckets.take("a")
    assert buckets.wait_s("a") == 0
    buckets.take("a")
    assert buckets.wait_s("a") == 2, "it was full again, and no fuller than that"


def test_what_is_not_limited_never_waits() -> None:
    buckets = Buckets(0, 1)
    for _ in range(5):
        buckets.take("a")
    assert buckets.wait_s("a") == 0


def test_only_so_many_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_MOST_CLIENTS", 3)
    buckets = Buckets(0.5, 1, Clock())
    for client in "abcd":
        buckets.take(client)
    assert [buckets.wait_s(client) for client in "abcd"] == [0, 2, 2, 2]


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("127.0.0.1", None), ("::1", None), ("::ffff:127.0.0.1", None), ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("", ""), ("a-name", "a-name"),
    ],
)  # fmt: skip
def test_who_a_client_is(host: str, client: str | None) -> None:
    assert client_of(host) == client
