"""One system that cannot be trained costs the tables that system, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cxrgaze_ray.errors import EnvironmentFault, TrainingDiverged, UserError
from cxrgaze_ray.paper import run
from cxrgaze_ray.paper.plan import TablesSettings, plan_jobs
from cxrgaze_ray.paper.run import Results
from cxrgaze_ray.storage import LocalStore
from tests.unit.paper.test_document import answers


class Clock:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> tuple[Results, list[str]]:
    """Try to do the first two systems, of which every training fails."""
    said: list[str] = []
    results = Results(TablesSettings(preset="tiny"))
    made = run._Work(None, None, None, 1, None, said.append, results)  # type: ignore[arg-type]

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(run._Work, "_train", fails)
    for job in plan_jobs(results.settings)[:2]:
        made.do(job, Clock())  # type: ignore[arg-type]
    return results, said


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (UserError("No image of the split has gaze.", "Leave the phase out: --phases."), "No image of the split has"),
        (TrainingDiverged("The loss is not finite.", "Lower the rate."), "training diverged: The loss is not finite"),
    ],
)
def test_what_the_store_is_too_small_for_is_left_out(
    monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    results, said = failing(monkeypatch, error)
    assert set(results.left_out) == {("dnet201-cl", 0), ("dnet201", 0)}
    assert all(one.startswith(why) for one in results.left_out.values())
    assert "--phases" not in said[0], "the command has no such option"
    assert results.why_not("dnet201").startswith(why)
    assert json.loads(json.dumps(results.left_out_by_title())).keys() == {"dnet201-cl", "dnet201"}


def test_an_outage_stops_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentFault):
        failing(monkeypatch, EnvironmentFault("The store is gone.", "Try again."))


def test_kept_answers_that_are_torn_are_asked_for_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = LocalStore(str(tmp_path))
    said: list[str] = []
    store = SimpleNamespace(info=SimpleNamespace(sha256=lambda: "s" * 64), parts=())
    registry = SimpleNamespace(look=lambda *_, **__: None)
    job = plan_jobs(TablesSettings(preset="tiny"))[1]
    made = run._Work(store, registry, out, 1, None, said.append, Results(TablesSettings()))  # type: ignore[arg-type]
    expected = answers(1.0, said=("classes",))
    monkeypatch.setattr(run, "table_of_bundle", lambda *_, **__: expected)
    bundle = SimpleNamespace(info=SimpleNamespace(predicts=("classes",)))
    made._answers(job, "a" * 64, bundle, None)  # type: ignore[arg-type]
    (key,) = (info.key for info in out.list())
    whole = out.get(key)
    out.put(key, whole[:100])
    again = made._answers(job, "a" * 64, bundle, None)  # type: ignore[arg-type]
    assert again.image_ids == expected.image_ids
    assert out.get(key) == whole
    assert said == ["dnet201: its kept answers cannot be read, and are asked for again."]
