"""Reports and facts to a decision: every rule of the policy, and which of them outweighs which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.evaluation.gate import GateSettings
from cxrgaze_ray.lifecycle.monitoring import MonitorReport
from cxrgaze_ray.lifecycle.retraining import Action, DecidePolicy, Policy, Situation, decide, read_policy
from tests.monitor_reports import report_of

NOW = "2026-11-26T12:00:00+00:00"


def situation(**values: Any) -> Situation:
    usual: dict[str, Any] = {
        "reason": "schedule", "now": NOW, "train_patients": 800, "new_patients": 100, "test_patients": 200,
        "looks_used": 3, "last_retraining_at": "2026-10-01T00:00:00+00:00",
    }  # fmt: skip
    return Situation(**{**usual, **values})


def report(*kinds: str, made_at: str = NOW, patients: int = 300) -> MonitorReport:
    return report_of(*kinds, made_at=made_at, patients=patients)


def action(*reports: MonitorReport, policy: Policy | None = None, **values: Any) -> Action:
    decision = decide(policy or Policy(), situation(**values), reports)
    assert decision.reasons, "a decision without a reason"
    return decision.action


def test_enough_new_labels_are_worth_a_scheduled_retraining() -> None:
    assert action() is Action.RETRAIN
    assert action(new_patients=49) is Action.WAIT


def test_patients_that_the_champion_may_have_had_are_not_called_new() -> None:
    named, not_named = (decide(Policy(), situation(champion_stores_named=one)).reasons[0] for one in (True, False))
    assert named == "There are 100 newly labelled patients."
    assert not_named == "There are 100 labelled patients in stores that the champion has not learned from."


@pytest.mark.parametrize("kind", ["site", "exposure", "prevalence", "performance"])
def test_a_drift_with_labels_of_the_new_retrains(kind: str) -> None:
    decision = decide(Policy(), situation(reason="drift"), [report(kind)])
    assert decision.action is Action.RETRAIN
    assert f"It looks like {kind}." in decision.reasons


def test_a_drift_without_labels_asks_for_some() -> None:
    decision = decide(Policy(), situation(reason="drift", new_patients=3), [report("site")])
    assert decision.action is Action.ASK
    assert "label more of them" in decision.reasons[0]


@pytest.mark.parametrize("kind", ["polarity", "quality", "unknown"])
def test_what_retraining_would_only_learn_by_heart_is_for_a_person(kind: str) -> None:
    decision = decide(Policy(), situation(reason="drift"), [report(kind)])
    assert decision.action is Action.ASK
    assert decision.reasons[0] == f"Look into this first: It looks like {kind}."


def test_a_person_outweighs_waiting_and_that_outweighs_retraining() -> None:
    soon: Any = {"last_retraining_at": "2026-11-25T00:00:00+00:00"}
    assert action(report("site"), reason="drift", **soon) is Action.WAIT
    assert action(report("site"), report("polarity"), reason="drift", **soon) is Action.ASK


def test_an_alert_that_no_report_shows_waits() -> None:
    assert action(report(), reason="drift") is Action.WAIT


def test_a_drift_needs_a_fresh_report() -> None:
    assert action(reason="drift") is Action.ASK
    old = report("site", made_at="2026-11-01T00:00:00+00:00")
    assert action(old, reason="drift") is Action.ASK


def test_a_report_of_a_handful_says_nothing() -> None:
    assert action(report(patients=5), reason="schedule") is Action.WAIT


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"train_patients": 0, "new_patients": 0}, "label some first"),
        ({"test_patients": 0}, "nothing could be compared"),
        ({"train_patients": 99}, "Only 99 labelled patients to learn from"),
        ({"test_patients": 49}, "the gate could not tell"),
        ({"looks_used": 20}, "was shown to 20 models, of 20"),
        ({"last_retraining_at": "2026-11-26T15:00:00+00:00"}, "3.0 hours after this machine's clock"),
    ],
)
def test_what_stands_in_the_way_is_told(values: dict[str, Any], told: str) -> None:
    decision = decide(Policy(), situation(**values))
    assert decision.action is Action.ASK
    assert told in decision.reasons[0]


def test_clocks_that_disagree_a_little_do_not_matter() -> None:
    assert action(report("site", made_at="2026-11-26T12:04:00+00:00"), reason="drift") is Action.RETRAIN
    assert action(report("site", made_at="2026-11-26T13:04:00+00:00"), reason="drift") is Action.ASK


def test_a_person_may_do_what_the_clock_may_not() -> None:
    soon: Any = {"last_retraining_at": "2026-11-26T11:00:00+00:00", "new_patients": 0, "test_patients": 5}
    assert action(reason="manual", **soon) is Action.RETRAIN
    assert action(report("polarity"), reason="manual") is Action.RETRAIN
    assert action(reason="manual", train_patients=0) is Action.ASK
    assert action(reason="manual", looks_used=20) is Action.ASK


def test_the_policy_has_the_numbers() -> None:
    eager = Policy.from_yaml(
        "decide: {least_new_patients: 1, least_days_between: 0, ask_on: [], retrain_on: [polarity]}"
    )
    assert action(report("polarity"), policy=eager, reason="drift", new_patients=1) is Action.RETRAIN
    with pytest.raises(ConfigError, match=r"decide\.retrain_on"):
        Policy.from_yaml("decide: {retrain_on: [weather]}")
    assert read_policy(eager) is eager


def test_the_documented_policy_names_every_number_with_its_default() -> None:
    text = (Path(__file__).parents[3] / "jobs" / "policy.yaml").read_text()
    assert Policy.from_yaml(text) == Policy()
    told = yaml.safe_load(text)
    assert told["decide"].keys() == DecidePolicy.model_fields.keys()
    assert told["gate"].keys() == GateSettings.model_fields.keys()


def test_the_same_input_has_the_same_answer() -> None:
    asked = (Policy(), situation(reason="drift"), (report("site", "polarity"),))
    assert decide(*asked) == decide(*asked)
