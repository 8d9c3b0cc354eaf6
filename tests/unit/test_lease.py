"""One driver works on a run at a time, and a dead one's place is taken."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cxrgaze_ray.errors import RunConflict, StoreUnavailable
from cxrgaze_ray.runs import Lease, lease
from cxrgaze_ray.runs.lease import drivers_summary
from cxrgaze_ray.storage import LocalStore


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(lease, "STALE_S", 60.0)  # only the tests that sit it out make it short


def make_stale_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "STALE_S", 0.6)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(str(tmp_path / "run"))
    store.put("run.json", b"{}")  # a lease is of a run that is there
    return store


def die(driver: Lease) -> None:
    """Stop a driver's heartbeat, as the end of its process would."""
    driver._stop.set()
    assert driver._thread is not None
    driver._thread.join()


def epochs(store: LocalStore) -> list[str]:
    return [info.key for info in store.list("lease/") if info.key.endswith(".json")]


def test_a_second_driver_is_told_while_the_first_one_works(store: LocalStore) -> None:
    waits: list[float] = []
    with Lease(store) as first:
        with pytest.raises(RunConflict, match="Another driver is working"), Lease(store, waits.append):
            pass
        first.check()
    assert waits == [60.0]
    assert len(epochs(store)) == 1


def test_a_driver_whose_heartbeat_stands_still_is_taken_over(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_stale_soon(monkeypatch)
    with Lease(store) as first:
        die(first)
        first.check()
        with Lease(store) as second:
            second.check()
            with pytest.raises(RunConflict, match="took this run over"):
                first.check()
    assert len(epochs(store)) == 2


def test_a_driver_that_died_before_its_first_heartbeat_is_taken_over(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_stale_soon(monkeypatch)
    store.put("lease/00000001.json", b"nonce")
    with Lease(store) as second:
        second.check()
    assert len(epochs(store)) == 2


def test_a_released_lease_is_taken_at_once(store: LocalStore) -> None:
    waits: list[float] = []
    for _ in range(3):
        with Lease(store, waits.append) as driver:
            driver.check()
    assert waits == []
    assert len(epochs(store)) == 3


def test_a_lease_released_while_it_is_watched_is_taken(store: LocalStore) -> None:
    first = Lease(store)
    first.__enter__()
    die(first)
    release = threading.Timer(0.1, first.__exit__, (None, None, None))
    with Lease(store, lambda _: release.start()) as second:
        second.check()
    release.join()
    assert len(epochs(store)) == 2


def test_of_a_race_exactly_one_wins(store: LocalStore) -> None:
    count = 8
    start, decided = threading.Barrier(count), threading.Barrier(count)

    def drive() -> bool:
        start.wait()
        try:
            with Lease(store) as driver:
                decided.wait(60)
                driver.check()
        except RunConflict:
            decided.wait(60)
            return False
        return True

    with ThreadPoolExecutor(count) as pool:
        wins = [pool.submit(drive) for _ in range(count)]
    assert sum(win.result() for win in wins) == 1
    assert len(epochs(store)) == 1


def test_a_claim_whose_reply_got_lost_is_ours(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put = LocalStore.put_if_absent

    def forget(self: LocalStore, key: str, data: bytes) -> bool:
        put(self, key, data)
        return False

    monkeypatch.setattr(LocalStore, "put_if_absent", forget)
    with Lease(store) as driver:
        driver.check()


def test_the_heart_beats(store: LocalStore) -> None:
    with Lease(store):
        beats: set[bytes] = set()
        deadline = time.monotonic() + 30
        while len(beats) < 3 and time.monotonic() < deadline:
            beats.add(store.get("lease/00000001.heartbeat"))
            time.sleep(0.01)
    assert len(beats) == 3


def test_the_heart_outlives_a_short_outage(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = threading.Event()
    failed = threading.Event()
    put = LocalStore.put

    def flaky(self: LocalStore, key: str, data: bytes) -> None:
        if broken.is_set() and key.endswith(".heartbeat"):
            failed.set()
            raise StoreUnavailable("down")
        put(self, key, data)

    monkeypatch.setattr(LocalStore, "put", flaky)
    with Lease(store):
        broken.set()
        assert failed.wait(30)
        broken.clear()
        with pytest.raises(RunConflict), Lease(store):
            pass


def test_figures_of_all_drivers_add_up(store: LocalStore) -> None:
    with Lease(store) as first:
        first.note(seconds=1.5, images=10)
        first.note(seconds=2.0)
    with Lease(store) as second:
        second.note(seconds=0.5, images=4, retried=1)
    with Lease(store):
        pass
    assert drivers_summary(store) == {"seconds": 2.5, "images": 14, "retried": 1}


def test_a_driver_that_failed_lets_go_and_its_figures_count(store: LocalStore) -> None:
    def drive() -> None:
        with Lease(store) as driver:
            driver.note(images=3)
            raise KeyError

    with pytest.raises(KeyError):
        drive()
    assert drivers_summary(store) == {"images": 3}
    waits: list[float] = []
    with Lease(store, waits.append):
        assert waits == []


def unavailable(*_: object) -> None:
    raise StoreUnavailable("down")


def leave_without_store(store: LocalStore, monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
    with Lease(store) as driver:
        die(driver)
        monkeypatch.setattr(LocalStore, "put", unavailable)
        work()


def test_a_release_that_fails_is_told(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreUnavailable):
        leave_without_store(store, monkeypatch, lambda: None)


def test_a_release_that_fails_does_not_hide_why_the_driver_left(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        leave_without_store(store, monkeypatch, work)
