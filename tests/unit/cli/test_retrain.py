"""What `cxrgaze retrain` tells of a retraining that has ended."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from cxrgaze_ray.cli.retrain import retrain
from cxrgaze_ray.evaluation.gate import COLUMNS, GateSettings, ModelFacts, judge
from cxrgaze_ray.lifecycle.retraining import Action, Decision, Result
from cxrgaze_ray.lifecycle.retraining.workspace import Conclusion
from tests.model_pairs import table_pair


def test_the_gates_table_has_a_header_and_a_row_a_criterion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    facts = ModelFacts(
        golden_reproduced=True, golden_difference=0.0, latency_ratio=1.0, size_mib=1.0, looks_used=1, looks_of=20
    )
    gate = judge(*table_pair(80, 0), facts, GateSettings(rounds=100))
    ended = Conclusion(
        retraining_id="0", outcome=gate.outcome, why=gate.why, version="v0002", weights_sha256="-", promoted=False,
        finished_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    result = Result(Decision(action=Action.RETRAIN, reasons=("asked",)), ended, gate, "page.html")
    monkeypatch.setattr("cxrgaze_ray.lifecycle.retraining.run_retraining", lambda *_: result)
    (tmp_path / "retrain.yaml").write_text("registry: nowhere\n")
    with pytest.raises(typer.Exit) as told:
        retrain(str(tmp_path / "retrain.yaml"))
    assert told.value.exit_code == gate.exit_code
    header, *rows = capfd.readouterr().out.splitlines()
    assert header.split() == COLUMNS
    assert [row.split("  ")[0] for row in rows[: len(gate.criteria)]] == [one.title for one in gate.criteria]
