"""What `cxrgaze retrain` tells of a retraining that has ended."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from cxrgaze_ray.cli.retrain import retrain
from cxrgaze_ray.evaluation.gate import COLUMNS, GateSettings, ModelFacts, judge
from cxrgaze_ray.lifecycle.retraining import Action, Decision, Result
from cxrgaze_ray.lifecycle.retraining.workspace import Conclusion
from tests.command import forget_terminal
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
    judged = [one.title for one in gate.judged]
    assert [row.split("  ")[0] for row in rows[: len(judged)]] == judged
    assert len(judged) < len(gate.criteria)
    assert rows[len(judged)].startswith("Not judged, for lack of patients or of the data they need: ")
    assert [row for row in rows if "not applicable" in row] == []
    assert rows[len(judged) + 1] == f"cxrgaze@v0002: {gate.outcome.replace('_', ' ')}. {gate.why}"


def test_a_plan_is_told_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = {
        "to_ingest": ["./phantoms2"], "phases": ["encoder", "classifier"], "epochs": {"encoder": 8, "classifier": 3},
        "auto_promote": False, "last_retraining_at": None, "warnings": ["Warning: other shares."],
    }  # fmt: skip
    monkeypatch.setattr("cxrgaze_ray.lifecycle.retraining.plan_retraining", lambda *_: plan)
    (tmp_path / "retrain.yaml").write_text("registry: nowhere\n")
    forget_terminal()
    retrain(str(tmp_path / "retrain.yaml"), dry_run=True)
    told = capfd.readouterr()
    forget_terminal()
    assert re.findall(r"\S+(?: \S+)*", told.out) == [
        "to ingest", "./phantoms2", "phases", "encoder, classifier", "epochs", "encoder 8, classifier 3",
        "auto promote", "no", "last retraining at", "none",
    ]  # fmt: skip
    assert told.err.splitlines() == [
        "Warning: other shares.",
        "What it decides depends on ./phantoms2, which is not ingested yet.",
        "Nothing was changed.",
    ]
