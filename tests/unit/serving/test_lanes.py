"""What people wait for goes before what an archive can wait for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cxrgaze_ray.serving.lanes import URGENT_IN_A_ROW, Lanes


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes()
    yield lanes
    lanes.close()


class Held:
    """Keeps the computing thread busy until it is let go, so that what is submitted meanwhile queues up."""

    def __init__(self, lanes: Lanes) -> None:
        self.go = threading.Event()
        started = threading.Event()

        def hold() -> None:
            started.set()
            assert self.go.wait(30)

        lanes.submit(hold)
        assert started.wait(30)


def test_urgent_work_goes_first_and_each_lane_keeps_its_order(lanes: Lanes) -> None:
    done: list[str] = []
    held = Held(lanes)
    futures = [lanes.submit(done.append, name, urgent=name.startswith("u")) for name in ("o1", "o2", "u1", "u2")]
    held.go.set()
    for future in futures:
        future.result(30)
    assert done == ["u1", "u2", "o1", "o2"]


def test_urgent_work_passes_between_the_parts_of_a_long_piece(lanes: Lanes) -> None:
    done: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def long() -> None:
        done.append("part 1")
        begun.set()
        assert go.wait(30)
        lanes.let_urgent_pass()
        done.append("part 2")

    future = lanes.submit(long)
    assert begun.wait(30)
    lanes.submit(done.append, "ordinary")
    lanes.submit(done.append, "urgent", urgent=True)
    go.set()
    future.result(30)
    assert done[:3] == ["part 1", "urgent", "part 2"]


def test_a_flood_of_urgent_work_does_not_stop_the_rest(lanes: Lanes) -> None:
    done: list[str] = []
    held = Held(lanes)
    ordinary = lanes.submit(done.append, "ordinary")
    futures = [lanes.submit(done.append, "urgent", urgent=True) for _ in range(3 * URGENT_IN_A_ROW)]
    held.go.set()
    ordinary.result(30)
    for future in futures:
        future.result(30)
    assert done.index("ordinary") <= URGENT_IN_A_ROW


def test_errors_reach_who_waits_and_the_next_piece_is_computed(lanes: Lanes) -> None:
    with pytest.raises(ZeroDivisionError):
        lanes.submit(lambda: 1 / 0).result(30)
    assert lanes.submit(lambda: 7, urgent=True).result(30) == 7


def test_what_is_cancelled_before_its_turn_is_not_computed(lanes: Lanes) -> None:
    done: list[str] = []
    held = Held(lanes)
    gone = lanes.submit(done.append, "gone", urgent=True)
    assert gone.cancel()
    held.go.set()
    lanes.submit(done.append, "stays").result(30)
    assert done == ["stays"]


def test_closing_computes_what_is_queued_and_takes_no_more() -> None:
    lanes = Lanes()
    future = lanes.submit(lambda: 3)
    lanes.close()
    assert future.result(0) == 3
    with pytest.raises(RuntimeError, match="closed"):
        lanes.submit(lambda: 4)
