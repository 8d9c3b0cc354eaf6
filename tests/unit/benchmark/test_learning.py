"""Whether phases learn is judged by their own validation losses, and a phase that did not fails the command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cxrgaze_ray.benchmark import learning
from cxrgaze_ray.benchmark.learning import Learned, learned
from cxrgaze_ray.errors import EXIT_STRICT
from cxrgaze_ray.models.curves import Curve
from tests.command import Cxrgaze


def test_a_phase_has_learned_if_a_later_epoch_is_better_than_the_first() -> None:
    curves = [Curve(phase="saliency", train=(3, 2, 1), validation=validation, best=1) for validation in
              ((2.0, 1.0, 1.5), (1.0, 1.5, 2.0), (1.0, 1.0, 1.0))]  # fmt: skip
    found = [learned(1, 10.0, one) for one in curves]
    assert [(one.first, one.best, one.best_epoch) for one in found] == [(2.0, 1.0, 2), (1.0, 1.0, 1), (1.0, 1.0, 1)]
    assert [one.improved for one in found] == [True, False, False]


@pytest.mark.parametrize(("best", "code"), [(0.5, 0), (1.0, EXIT_STRICT)])
def test_the_command_fails_if_a_phase_did_not_learn(
    cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch, best: float, code: int
) -> None:
    def bench(*_: object) -> Iterator[Learned]:
        yield Learned(1, "saliency", 1.0, best, 2, 3, 9.0)

    monkeypatch.setattr(learning, "bench_learning", bench)
    ended = cxrgaze("bench", "learning", "--json")
    assert (ended.code, ended.json["improved"]) == (code, int(best < 1))
