"""Each rule's verdicts, by construction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.evaluation.gate.checks import checks
from cxrgaze_ray.evaluation.gate.compare import Pair
from cxrgaze_ray.evaluation.gate.criteria import guards, non_inferiority, saliency, superiority
from cxrgaze_ray.evaluation.gate.report import Criterion
from cxrgaze_ray.evaluation.gate.settings import GateSettings, ModelFacts, Superiority
from cxrgaze_ray.evaluation.table import UNKNOWN, EvaluationTable, Target, score_columns
from tests.model_pairs import HARMED, Model, table_pair

SETTINGS = GateSettings(rounds=400)
FACTS = ModelFacts(
    golden_reproduced=True, golden_difference=1e-7, latency_ratio=1.0, size_mib=90, looks_used=1, looks_of=20
)


def pair(patients: int, model: Model, seed: int = 0) -> Pair:
    return Pair.of(*table_pair(patients, seed, model), SETTINGS.rounds, 0)


def no_worse(patients: int, model: Model, target: Target = "auc_macro", margin: float = 0.02) -> Criterion:
    return non_inferiority(pair(patients, model), target, margin, SETTINGS.alpha)


def test_one_that_is_plainly_no_worse_passes() -> None:
    found = no_worse(800, Model(own=0.9))
    assert found.verdict == "pass"
    assert found.low is not None
    assert found.low > -0.02
    assert found.why.endswith("within the margin of 0.02.")
    assert "with 95% confidence" in found.why


def test_one_that_is_plainly_worse_fails() -> None:
    found = no_worse(800, Model(own=2.5))
    assert found.verdict == "fail"
    assert found.high is not None
    assert found.high < 0
    assert found.champion is not None
    assert found.candidate is not None
    assert found.difference == pytest.approx(found.candidate - found.champion)
    assert found.why.startswith(f"Macro AUC is {-(found.difference or 0):.3f} lower, beyond the margin of 0.02;")


def test_among_few_patients_it_cannot_tell() -> None:
    found = no_worse(30, Model())
    assert found.verdict == "cannot_tell"
    assert found.why.endswith("too few patients to tell.")


def test_a_small_but_certain_loss_is_within_the_margin() -> None:
    found = no_worse(2000, Model(own=1.3), margin=0.05)
    assert found.high is not None
    assert (found.verdict, found.high < 0) == ("pass", True)


@pytest.mark.parametrize(
    ("patients", "model", "verdict"),
    [(800, Model(), "pass"), (800, Model(temperature=0.5), "fail"), (40, Model(temperature=0.9), "cannot_tell")],
)
def test_a_rise_of_the_calibration_error_is_the_loss(patients: int, model: Model, verdict: str) -> None:
    found = no_worse(patients, model, "ece", 0.05)
    assert found.verdict == verdict
    if verdict == "fail":
        assert "higher, beyond the margin" in found.why


@pytest.mark.parametrize(
    ("patients", "loss", "verdict"),
    [(400, 0.0, "pass"), (400, 0.05, "fail"), (120, 0.01, "cannot_tell"), (60, 0.5, "not_applicable")],
)
def test_saliency(patients: int, loss: float, verdict: str) -> None:
    found = saliency(pair(patients, Model(cc_loss=loss)), SETTINGS)
    assert found.verdict == verdict
    assert 0 < found.patients < patients


def test_a_candidate_whose_maps_turn_constant_fails() -> None:
    champion, candidate = table_pair(300, 0)
    constant = replace(candidate, maps_NM=score_columns(len(candidate)))
    assert saliency(Pair.of(champion, constant, 200, 0), SETTINGS).verdict == "fail"
    assert saliency(Pair.of(constant, champion, 200, 0), SETTINGS).verdict == "not_applicable"


@pytest.mark.parametrize(
    ("own", "patients", "verdict"), [(0.2, 800, "pass"), (2.5, 800, "fail"), (1.0, 200, "cannot_tell")]
)
def test_superiority(own: float, patients: int, verdict: str) -> None:
    wanted = SETTINGS.model_copy(update={"superiority": Superiority(target="auc_macro")})
    assert [one.verdict for one in superiority(pair(patients, Model(own=own)), wanted)] == [verdict]


def test_superiority_only_where_the_policy_asks_for_it() -> None:
    assert list(superiority(pair(50, Model()), SETTINGS)) == []


@pytest.mark.parametrize("target", ["auc_pneumonia", "accuracy", "ece", "cc"])
def test_superiority_on_a_subgroup(target: Target) -> None:
    wanted = Superiority(target=target, facet=HARMED[0], value=HARMED[1])
    found = next(superiority(pair(300, Model()), SETTINGS.model_copy(update={"superiority": wanted})))
    assert found.subgroup == "manufacturer=Cumae"
    assert found.verdict == "cannot_tell"
    assert found.patients < 80
    assert "of manufacturer=Cumae is" in found.why


def test_superiority_on_a_subgroup_that_is_not_there() -> None:
    wanted = Superiority(target="auc_macro", facet="sex", value="X")
    found = next(superiority(pair(50, Model()), SETTINGS.model_copy(update={"superiority": wanted})))
    assert (found.verdict, found.images) == ("cannot_tell", 0)
    assert "there is no image for it" in found.why


def test_a_policy_names_a_target_that_there_is() -> None:
    with pytest.raises(ConfigError, match=r"superiority\.target"):
        GateSettings.build(superiority={"target": "auc_gout"})
    with pytest.raises(ConfigError, match="facet and value go together"):
        GateSettings.build(superiority={"target": "cc", "facet": "sex"})
    with pytest.raises(ConfigError, match="facets"):
        GateSettings.build(facets=["shoe_size"])


def test_a_harmed_subgroup_fails_alone() -> None:
    found = guards(pair(800, Model(own_harmed=5)), SETTINGS)
    assert [one.subgroup for one in found if one.verdict == "fail"] == ["manufacturer=Cumae"]
    harmed = next(one for one in found if one.verdict == "fail")
    assert harmed.why.endswith("harmed.")
    assert "with 99.64% confidence" in harmed.why  # fourteen subgroups judged at once


def test_a_subgroup_that_may_look_bad_by_chance_leaves_it_open() -> None:
    found = [one for seed in range(6) for one in guards(pair(120, Model(own=1.5), seed), SETTINGS)]
    unsure = [one for one in found if one.verdict == "cannot_tell"]
    assert unsure
    for one in unsure:
        assert one.difference is not None
        assert one.difference < -SETTINGS.subgroup_margin
        assert one.high is None or one.high >= 0


def test_every_value_is_looked_at_and_small_ones_are_listed() -> None:
    found = {one.subgroup: one for one in guards(pair(300, Model()), SETTINGS)}
    assert len(found) == 3 + 6 + 2 + 3
    small = found["sex=not stated"]
    assert small.verdict == "not_applicable"
    assert 0 < small.patients < 30
    assert f"has {small.patients} labelled patients, 30 are needed" in small.why


def test_a_subgroup_of_one_class_is_not_applicable() -> None:
    champion, candidate = table_pair(200, 0)
    views = tuple("PA" if label == 1 else "AP" for label in champion.labels_N)
    champion = replace(champion, facets={**champion.facets, "view_position": views})
    found = {one.subgroup: one for one in guards(Pair.of(champion, candidate, 200, 0), SETTINGS)}
    assert found["view_position=PA"].verdict == "not_applicable"
    assert found["view_position=PA"].patients > 30
    assert "one class only" in found["view_position=PA"].why
    assert found["view_position=AP"].verdict in ("pass", "cannot_tell")


def test_draws_without_a_rare_class_leave_it_open() -> None:
    champion, candidate = table_pair(200, 0)
    rare = champion.labels_N.copy()
    rare[rare == 2] = 1
    rare[0] = 2
    old, new = (replace(one, labels_N=rare, patients=one.image_ids) for one in (champion, candidate))
    found = non_inferiority(Pair.of(old, new, 400, 0), "auc_macro", 0.02, 0.05)
    assert (found.verdict, found.low, found.high) == ("cannot_tell", None, None)
    assert found.difference is not None
    assert "undefined in many draws" in found.why


def unlabelled(table: EvaluationTable) -> EvaluationTable:
    return replace(table, labels_N=np.full(len(table), UNKNOWN))


def test_unlabelled_images_count_for_saliency_only() -> None:
    old, new = (unlabelled(one) for one in table_pair(200, 0))
    both = Pair.of(old, new, 200, 0)
    assert saliency(both, SETTINGS).verdict == "pass"
    assert guards(both, SETTINGS) == []
    assert non_inferiority(both.take(np.zeros(len(both), bool)), "ece", 0.02, 0.05).verdict == "cannot_tell"


@pytest.mark.parametrize(
    ("change", "name", "verdict"),
    [
        ({}, "", ""),
        ({"golden_reproduced": False, "golden_difference": float("inf")}, "golden outputs", "fail"),
        ({"latency_ratio": 1.51}, "latency ratio", "fail"),
        ({"latency_ratio": None}, "latency ratio", "cannot_tell"),
        ({"size_mib": 1025}, "size in MiB", "fail"),
        ({"looks_used": 20}, "", ""),
        ({"looks_used": 21}, "looks", "cannot_tell"),
        ({"looks_used": 3, "looks_of": 2}, "looks", "cannot_tell"),
    ],
)
def test_checks(change: dict[str, object], name: str, verdict: str) -> None:
    found = checks(FACTS.model_copy(update=change), SETTINGS, 50)
    wrong = [(one.name, one.verdict) for one in found if one.verdict != "pass"]
    assert wrong == ([(name, verdict)] if name else [])
    assert [one.name for one in found if one.rule == "budget"] == ["looks"]


def test_too_few_patients() -> None:
    found = checks(FACTS, SETTINGS, 49)[0]
    assert (found.verdict, found.why) == ("cannot_tell", "49 patients have a label, 50 are needed.")
