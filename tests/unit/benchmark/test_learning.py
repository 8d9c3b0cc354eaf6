"""Whether phases learn is judged by their own validation losses, and a phase that did not fails the command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cxrgaze_ray.benchmark import learning
from cxrgaze_ray.benchmark.learning import Learned, learned
from cxrgaze_ray.errors import EXIT_STRICT
from cxrgaze_ray.models.curves import Curve
from tests.command import Cxrgaze


def test_a_phase_has_learned_if_an_epoch_is_better_than_what_it_began_with() -> None:
    curves = [Curve(phase="saliency", train=(3, 2, 1), validation=validation, best=1, before=before)
              for validation, before in (((2.0, 1.0, 1.5), 1.5), ((1.0, 1.5, 2.0), 1.2), ((1.0, 1.0, 1.0), 1.0),
                                         ((2.0, 1.5, 1.6), None))]  # fmt: skip
    found = [learned(1, 10.0, one) for one in curves]
    assert [(one.before, one.best, one.best_epoch) for one in found] == [
        (1.5, 1.0, 2), (1.2, 1.0, 1), (1.0, 1.0, 1), (2.0, 1.5, 2)
    ]  # fmt: skip
    assert [one.improved for one in found] == [True, True, False, True]


@pytest.mark.parametrize(("best", "code"), [(0.5, 0), (1.0, EXIT_STRICT)])
def test_the_command_fails_if_a_phase_did_not_learn(
    cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch, best: float, code: int
) -> None:
    def bench(*_: object) -> Iterator[Learned]:
        yield Learned(1, "saliency", 1.0, best, 2, 3, 9.0)

    monkeypatch.setattr(learning, "bench_learning", bench)
    ended = cxrgaze("bench", "learning", "--json")
    assert (ended.code, ended.json["improved"]) == (code, int(best < 1))
