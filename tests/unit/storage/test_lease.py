"""One driver works on a run at a time, and a dead one's place is taken."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cxrgaze_ray.errors import RunConflict, StoreUnavailable
from cxrgaze_ray.storage import LocalStore, ObjectInfo, lease
from cxrgaze_ray.storage.lease import Lease, drivers_summary


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
        second = Lease(store, waits.append, what="run", hint="Use another --out.")
        with pytest.raises(RunConflict, match="Another driver is working on this run") as told, second:
            pass
        first.check()
    assert told.value.hint == "Use another --out."
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
            with pytest.raises(RunConflict, match="took over this folder"):
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


class Outage:
    """Breaks a store for all its users until it is over."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on, self.met = False, threading.Event()
        for name in ("put", "fetch", "info", "list", "put_if_absent"):
            monkeypatch.setattr(LocalStore, name, self._flaky(getattr(LocalStore, name)))

    def _flaky(self, original: Callable[..., object]) -> Callable[..., object]:
        def operate(*arguments: object) -> object:
            if self.on:
                self.met.set()
                raise StoreUnavailable("down")
            return original(*arguments)

        return operate


class Impatient(LocalStore):
    """A store whose patient operations sit an outage out, and whose hasty ones are told of it."""

    outage: Outage

    def without_retries(self) -> LocalStore:
        return LocalStore(self.uri)

    def fetch(self, key: str) -> tuple[bytes, ObjectInfo]:
        self.outage.on = False
        return super().fetch(key)

    def info(self, key: str) -> ObjectInfo | None:
        self.outage.on = False
        return super().info(key)


class Clock:
    """Time that passes while one sleeps; told `on_sleep` how often so far."""

    def __init__(self, on_sleep: Callable[[int], None] = lambda _: None) -> None:
        self.now_s, self.sleeps, self.first_s = 0.0, 0, 0.0
        self._on_sleep = on_sleep

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        self.now_s += self.first_s if self.first_s and self.sleeps == 1 else seconds
        self._on_sleep(self.sleeps)


def test_an_outage_begins_the_wait_again(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    outage, observer = Outage(monkeypatch), Impatient(store.uri)
    observer.outage = outage

    def fall(sleeps: int) -> None:
        outage.on = sleeps == 15

    clock = Clock(fall)
    monkeypatch.setattr(lease, "time", clock)
    monkeypatch.setattr(lease, "STALE_S", 10.0)
    store.put("lease/00000001.json", b"nonce")
    store.put("lease/00000001.heartbeat", b"7")
    with Lease(observer) as second:
        second.check()
    assert outage.met.is_set()
    assert clock.sleeps == 15 + 20


def test_a_driver_that_beats_after_an_outage_is_alive(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    outage, observer = Outage(monkeypatch), Impatient(store.uri)
    observer.outage = outage

    def fall(sleeps: int) -> None:
        if sleeps == 17:
            store.put("lease/00000001.heartbeat", b"8")
        outage.on = sleeps == 15

    monkeypatch.setattr(lease, "time", Clock(fall))
    monkeypatch.setattr(lease, "STALE_S", 8.0)
    store.put("lease/00000001.json", b"nonce")
    store.put("lease/00000001.heartbeat", b"7")
    with pytest.raises(RunConflict, match="Another driver is working"), Lease(observer):
        pass


def test_time_asleep_is_no_time_of_looking(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def beat(sleeps: int) -> None:
        if sleeps == 2:  # the holder goes on as its observer does
            store.put("lease/00000001.heartbeat", b"8")

    clock = Clock(beat)
    clock.first_s = 60.0
    monkeypatch.setattr(lease, "time", clock)
    monkeypatch.setattr(lease, "STALE_S", 10.0)
    store.put("lease/00000001.json", b"nonce")
    store.put("lease/00000001.heartbeat", b"7")
    with pytest.raises(RunConflict, match="Another driver is working"), Lease(store):
        pass


def test_an_outage_that_stays_is_told_while_watching(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_LOOK_S", 0.01)
    outage = Outage(monkeypatch)
    store.put("lease/00000001.json", b"nonce")

    def fall(_: float) -> None:
        outage.on = True

    with pytest.raises(StoreUnavailable), Lease(store, fall):
        pass
    outage.on = False
    assert epochs(store) == ["lease/00000001.json"]


def test_a_driver_without_heartbeat_goes_on_unless_taken_over(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lease(store) as driver:
        outage = Outage(monkeypatch)
        outage.on = True
        assert outage.met.wait(30)
        with pytest.raises(StoreUnavailable):
            driver.check()
        outage.on = False
        driver.check()
        store.put("lease/00000002.json", b"other")
        with pytest.raises(RunConflict, match="took over this folder"):
            driver.check()


def test_the_heart_beats_without_patience(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = LocalStore(store.uri)
    beaten = threading.Event()

    def put(key: str, data: bytes) -> None:
        beaten.set()

    monkeypatch.setattr(hasty, "put", put)
    monkeypatch.setattr(store, "without_retries", lambda: hasty)
    with Lease(store):
        assert beaten.wait(30)


def test_who_leaves_with_an_error_does_not_wait_for_the_store(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[str] = []
    hasty = LocalStore(store.uri)
    monkeypatch.setattr(hasty, "put", lambda key, data: released.append(key))

    def drive() -> None:
        with Lease(store) as driver:
            die(driver)
            monkeypatch.setattr(store, "without_retries", lambda: hasty)
            raise StoreUnavailable("down")

    with pytest.raises(StoreUnavailable):
        drive()
    assert released == ["lease/00000001.released"]


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
