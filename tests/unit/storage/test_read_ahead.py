"""Reading ahead keeps order and bounds what waits."""

from __future__ import annotations

import threading

import pytest

from cxrgaze_ray.storage.read_ahead import read_ahead


def test_values_come_in_order() -> None:
    assert list(read_ahead(lambda key: key * key, range(50), ahead=4)) == [key * key for key in range(50)]


def test_no_more_than_asked_for_is_read_ahead() -> None:
    read, lock = set(), threading.Lock()

    def note(key: int) -> int:
        with lock:
            read.add(key)
        return key

    values = read_ahead(note, range(100), ahead=3)
    for taken in range(20):
        next(values)
        with lock:
            assert max(read) <= taken + 3


def test_the_first_fault_is_raised_and_the_rest_is_not_read() -> None:
    read = []

    def fail(key: int) -> int:
        read.append(key)
        if key == 2:
            raise ValueError(key)
        return key

    with pytest.raises(ValueError, match="2"):
        list(read_ahead(fail, range(1000), ahead=2))
    assert len(read) < 10
