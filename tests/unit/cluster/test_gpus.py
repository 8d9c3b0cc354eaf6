"""Work that was promised GPUs does not begin without them."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from cxrgaze_ray.cluster import gpus
from cxrgaze_ray.errors import EnvironmentFault


class Asked:
    """A placement group that is ready at the n-th look, or never."""

    def __init__(self, ready_at: int | None) -> None:
        self.bundles: list[dict[str, float]] = []
        self.removed, self._looks, self._ready_at = False, 0, ready_at

    def wait(self, _: float) -> bool:
        self._looks += 1
        return self._looks == self._ready_at


def stand_in(monkeypatch: pytest.MonkeyPatch, asked: Asked, there: list[int]) -> None:
    groups: Any = importlib.import_module("ray.util.placement_group")

    def make(bundles: list[dict[str, float]]) -> Asked:
        asked.bundles = bundles
        return asked

    monkeypatch.setattr(groups, "placement_group", make)
    monkeypatch.setattr(groups, "remove_placement_group", lambda one: setattr(one, "removed", True))
    monkeypatch.setattr(gpus, "_gpus", lambda: there.pop(0) if len(there) > 1 else there[0])


def test_those_that_are_there_are_not_asked_for_even_if_others_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(None)
    stand_in(monkeypatch, asked, [2])
    gpus.await_gpus(2, 0)
    assert asked.bundles == []


@pytest.mark.parametrize(("ready_at", "there"), [(3, [1]), (None, [1, 1, 1, 3])])
def test_what_is_missing_is_asked_for_until_it_is_there(
    monkeypatch: pytest.MonkeyPatch, ready_at: int | None, there: list[int]
) -> None:
    asked = Asked(ready_at)
    stand_in(monkeypatch, asked, there)
    gpus.await_gpus(3, 60)
    assert asked.bundles == [{"GPU": 1.0}] * 2
    assert asked.removed


def test_what_does_not_come_is_told_in_a_line_and_asked_for_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(None)
    stand_in(monkeypatch, asked, [0])
    with pytest.raises(EnvironmentFault, match=r"has 0 of the 3 GPUs that were asked for, after 0 s\."):
        gpus.await_gpus(3, 0)
    assert asked.removed
