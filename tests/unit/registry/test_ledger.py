"""The ledger: entries in one chain, who wrote them, and who wins a race."""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from cxrgaze_ray.errors import PromotionConflict, RegistryError
from cxrgaze_ray.registry.ledger import Chain, Draft, Ledger, signature
from cxrgaze_ray.storage import LocalStore, ObjectInfo

OLD = """{
  "number": 0,
  "action": "publish",
  "version": "v0001",
  "weights_sha256": "9f2c",
  "alias": null,
  "reason": "trained",
  "at": "2026-03-02T10:11:12+00:00",
  "previous_sha256": "",
  "nonce": "0b6f1e2d3c4b5a69788796a5b4c3d2e1"
}"""
"""As the first release wrote it."""


class Racing(LocalStore):
    """Holds each writer of the first entries until all have read the same ledger."""

    def __init__(self, uri: str, start: Barrier, number: int) -> None:
        super().__init__(uri)
        self._start, self._key = start, f"{number:08d}.json"

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if key.endswith(self._key):
            self._start.wait(timeout=60)
        return super().put_if_absent(key, data)


class Counting(LocalStore):
    """Notes which objects are read, and how often the ledger is listed."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.read: list[str] = []
        self.listed = 0

    def fetch(self, key: str) -> tuple[bytes, ObjectInfo]:
        self.read.append(key)
        return super().fetch(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self.listed += 1
        return super().list(prefix)


def draft(action: str = "publish", version: str = "v0001", alias: str | None = None, who: str = "ann") -> Draft:
    return Draft.model_validate(
        {"action": action, "version": version, "weights_sha256": "9f2c", "alias": alias, "who": who}
    )


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path))


def append(ledger: Ledger, *drafts: Draft) -> Chain:
    for one in drafts:
        ledger.append(ledger.read(), one)
    return ledger.read()


def race(store: LocalStore, number: int, *drafts: Draft) -> list[Chain | PromotionConflict]:
    """Append drafts that were all decided on the ledger as it is now, from as many threads."""
    start = Barrier(len(drafts))
    seen = Ledger(store, "net").read()

    def work(one: Draft) -> Chain | PromotionConflict:
        try:
            chain = Ledger(Racing(store.uri, start, number), "net").append(seen, one)
        except PromotionConflict as conflict:
            return conflict
        assert chain is not None
        return chain

    with ThreadPoolExecutor(len(drafts)) as pool:
        return list(pool.map(work, drafts))


def test_each_entry_carries_the_hash_of_the_one_before(store: LocalStore) -> None:
    ledger = Ledger(store, "net")
    assert ledger.read() == Chain()
    chain = append(ledger, draft(), draft("promote", alias="champion"))
    first, second = (store.get(f"net/ledger/{number:08d}.json") for number in range(2))
    assert chain.entries[1].previous_sha256 == hashlib.sha256(first).hexdigest()
    assert chain.head == hashlib.sha256(second).hexdigest()
    assert json.loads(second)["who"] == "ann"


def test_what_append_returns_is_what_is_read(store: LocalStore) -> None:
    ledger = Ledger(store, "net")
    assert ledger.append(ledger.read(), draft()) == ledger.read()


def test_an_entry_of_the_first_release_is_read_and_followed(store: LocalStore) -> None:
    store.put("net/ledger/00000000.json", OLD.encode())
    ledger = Ledger(store, "net")
    (old,) = ledger.read().entries
    assert (old.action, old.version, old.who, old.bundle_sha256, old.stores) == ("publish", "v0001", "", None, ())
    chain = append(ledger, draft("promote", alias="champion"))
    assert chain.entries[1].previous_sha256 == hashlib.sha256(OLD.encode()).hexdigest()
    assert chain.aliases() == {"champion": "v0001"}


def test_an_old_ledger_with_two_rollbacks_at_once_can_still_be_followed(store: LocalStore) -> None:
    moves = [("promote", "v0001"), ("promote", "v0002"), ("promote", "v0003"), *[("rollback", "v0002")] * 3]
    chain = append(Ledger(store, "net"), *(draft(action, version, "champion") for action, version in moves))
    assert chain.trail("champion") == ["v0001", "v0002"]


@pytest.mark.parametrize("second", ["promote", "rollback"])
def test_of_two_who_move_an_alias_one_wins_and_the_other_is_told(store: LocalStore, second: str) -> None:
    append(Ledger(store, "net"), draft())
    drafts = [draft("promote", "v0001", "champion", "ann"), draft(second, "v0002", "champion", "bob")]
    ended = race(store, 1, *drafts)
    (won,) = (one for one in ended if isinstance(one, Chain))
    (told,) = (one for one in ended if isinstance(one, PromotionConflict))
    winner = won.entries[-1]
    assert f"net@champion was moved to {winner.version} just now by {winner.who}: nothing was written" in str(told)
    assert "Look again: cxrgaze models show net" in str(told)
    assert Ledger(store, "net").read() == won
    assert len(won.entries) == 2


def test_whoever_moves_another_alias_or_publishes_meanwhile_is_no_conflict(store: LocalStore) -> None:
    drafts = [
        draft("promote", "v0001", "champion"), draft("promote", "v0001", "canary"), draft("publish", "v0002"),
        draft("look"), draft("gate"),
    ]  # fmt: skip
    ended = race(store, 0, *drafts)
    assert not [one for one in ended if isinstance(one, PromotionConflict)]
    chain = Ledger(store, "net").read()
    assert sorted(entry.action for entry in chain.entries) == sorted(one.action for one in drafts)
    assert chain.aliases() == {"champion": "v0001", "canary": "v0001"}


def test_a_conflict_is_found_behind_entries_that_are_none(store: LocalStore) -> None:
    ledger = Ledger(store, "net")
    seen = ledger.read()
    chain = append(ledger, draft(), draft("promote", alias="champion", who="bob"), draft("publish", "v0002"))
    with pytest.raises(PromotionConflict, match="by bob"):
        ledger.append(seen, draft("rollback", alias="champion"))
    assert ledger.read() == chain


def test_a_refusal_is_asked_for_again_after_a_lost_race(store: LocalStore) -> None:
    ledger = Ledger(store, "net")
    seen, asked = ledger.read(), []

    def only_first(chain: Chain) -> bool:
        asked.append(len(chain.entries))
        return not chain.entries

    append(ledger, draft())
    assert ledger.append(seen, draft("look"), only_first) is None
    assert (asked, len(ledger.read().entries)) == ([0, 1], 1)


def test_a_lost_answer_is_read_back(store: LocalStore) -> None:
    class Lossy(LocalStore):
        def put_if_absent(self, key: str, data: bytes) -> bool:
            super().put_if_absent(key, data)
            return False  # as S3 says when a client's retry meets its own first try

    ledger = Ledger(Lossy(store.uri), "net")
    assert len(append(ledger, draft(), draft("promote", alias="champion")).entries) == 2


def test_an_entry_is_read_once(store: LocalStore) -> None:
    counting = Counting(store.uri)
    append(Ledger(store, "net"), draft(), *[draft("look")] * 9)
    ledger = Ledger(counting, "net")
    first = ledger.read()
    assert (len(first.entries), len(counting.read), counting.listed) == (10, 10, 1)
    assert ledger.read() == ledger.read() == first
    assert (len(counting.read), counting.listed) == (10, 3)
    append(Ledger(store, "net"), draft("promote", alias="champion"), draft("look"))
    assert ledger.read() == Ledger(store, "net").read()
    assert counting.read[10:] == [f"net/ledger/{number:08d}.json" for number in (10, 11)]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_entry_that_changed_or_went_after_it_was_read_is_still_found(store: LocalStore, number: int) -> None:
    ledger, key = Ledger(store, "net"), f"net/ledger/{number:08d}.json"
    whole = append(ledger, draft(), draft("promote", alias="champion"), draft("look"))
    data = store.get(key)
    store.put(key, data.replace(b"ann", b"bob"))
    changed = Ledger(store, "net")
    if number == 2:  # nothing follows that names its hash
        assert ledger.read() == changed.read() != whole
    else:
        for one in (ledger, changed):
            with pytest.raises(RegistryError, match=f"broken at entry {number + 1}"):
                one.read()
    store.delete(key)
    if number == 2:
        assert ledger.read().entries == whole.entries[:2]
    else:
        with pytest.raises(RegistryError, match=f"broken at entry {number}"):
            ledger.read()
    store.put(key, data)
    assert ledger.read() == whole


def test_entries_in_the_wrong_place_are_refused(store: LocalStore) -> None:
    ledger = Ledger(store, "net")
    append(ledger, draft(), draft("promote", alias="champion"))
    store.put("net/ledger/00000007.json", store.get("net/ledger/00000001.json"))
    store.delete("net/ledger/00000001.json")
    with pytest.raises(RegistryError, match=r"ledger of net is broken at entry 1.*cxrgaze models verify net.*Restore"):
        ledger.read()


def test_a_file_that_is_no_entry_is_refused(store: LocalStore) -> None:
    append(Ledger(store, "net"), draft())
    store.put("net/ledger/notes.txt", b"x")
    with pytest.raises(RegistryError, match="broken at entry 1"):
        Ledger(store, "net").read()


def test_who_is_asked_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    assert signature() == signature("") == signature(" \n") == "ann@box"
    monkeypatch.setenv("CXRGAZE_WHO", "the night job")
    assert signature() == "the night job"
    assert signature("Dr. Bob\n<b@x.org>") == "Dr. Bob <b@x.org>"
    assert len(signature("x" * 999)) == 120


@pytest.mark.parametrize("error", [OSError, KeyError, ImportError])
def test_who_never_fails(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def nameless() -> str:
        raise error

    def adrift() -> str:
        raise OSError

    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.setattr(socket, "gethostname", adrift)
    assert signature().endswith("@unknown")
