"""How often the gate errs, on made-up pairs of models whose true difference is known (see `tests.model_pairs`).

Every claim is simulated over 200 test sets. `-s` prints the rates; the long tests draw as often as the policy does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from cxrgaze_ray.gate import Criterion, Facts, GateReport, GateSettings, Outcome, judge
from tests.model_pairs import CHAMPION, Model, answer_pair, true_loss

SEEDS = 200
FACTS = Facts(golden_reproduced=True, golden_difference=0.0, latency_ratio=1.0, size_mib=90, looks_used=1, looks_of=20)
ROUNDS = [pytest.param(250, id="quick"), pytest.param(2000, id="policy", marks=pytest.mark.long)]

INFERIOR = Model(own=1.57)
"""Macro AUC 0.04 lower."""

AT_MARGIN = Model(own=1.297)
"""Macro AUC 0.02 lower: the best of the candidates that are not to be accepted."""

HARMFUL = Model(own_harmed=3.4)
"""Macro AUC 0.15 lower in one subgroup, of 15% of the patients; equal in the others."""

OVERFITTED = Model(own=1.15, temperature=0.6)
"""Probabilities sharpened; macro AUC 0.01 lower."""


def simulate(title: str, patients: int, model: Model, rounds: int, **policy: object) -> list[GateReport]:
    """Judge one candidate on 200 test sets, and print how often it got which outcome, and what decided."""
    settings = GateSettings(rounds=rounds).model_copy(update=policy)
    reports = [judge(*answer_pair(patients, seed, model), FACTS, settings) for seed in range(SEEDS)]
    shares = {outcome.value: share(reports, outcome) for outcome in Outcome}
    print(f"\n{title}, {patients} patients, {rounds} draws:", *(f"{name} {part:.1%}" for name, part in shares.items()))
    for verdict in ("fail", "cannot_tell"):
        found = Counter(one.title for report in reports for one in report.criteria if one.verdict == verdict)
        print(f"  {verdict}:", ", ".join(f"{name} {count / SEEDS:.1%}" for name, count in found.most_common(4)))
    return reports


def share(reports: list[GateReport], outcome: Outcome) -> float:
    return sum(report.outcome is outcome for report in reports) / len(reports)


def share_of(reports: list[GateReport], chosen: Callable[[Criterion], bool], verdict: str) -> float:
    return sum(any(chosen(one) and one.verdict == verdict for one in r.criteria) for r in reports) / len(reports)


def is_auc(one: Criterion) -> bool:
    return (one.name, one.rule) == ("auc_macro", "non_inferiority")


def test_the_models_differ_by_what_is_said() -> None:
    assert true_loss(INFERIOR)[0] == pytest.approx(0.04, abs=0.001)
    assert true_loss(AT_MARGIN)[0] == pytest.approx(0.02, abs=0.001)
    assert true_loss(HARMFUL, harmed_only=True)[0] == pytest.approx(0.15, abs=0.004)
    loss, rise = true_loss(OVERFITTED)
    assert loss == pytest.approx(0.01, abs=0.002)
    assert rise > 0.08


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("patients", [100, 300])
def test_an_inferior_one_is_hardly_ever_accepted(patients: int, rounds: int) -> None:
    reports = simulate("0.04 worse", patients, INFERIOR, rounds)
    assert share(reports, Outcome.ACCEPTED) <= 0.05
    assert share_of(reports, is_auc, "pass") <= 0.05


@pytest.mark.parametrize("rounds", ROUNDS)
def test_one_at_the_margin_passes_as_seldom_as_alpha_says(rounds: int) -> None:
    reports = simulate("0.02 worse", 300, AT_MARGIN, rounds)
    assert share_of(reports, is_auc, "pass") <= 0.1  # 5%, and three standard errors of 200 test sets


@pytest.mark.parametrize("rounds", ROUNDS)
def test_an_equal_one_passes_where_there_are_enough_patients(rounds: int) -> None:
    reports = simulate("equal", 400, CHAMPION, rounds)
    assert share_of(reports, is_auc, "pass") >= 0.8
    assert share(reports, Outcome.REJECTED) <= 0.05


@pytest.mark.parametrize("rounds", ROUNDS)
def test_one_that_harms_a_single_subgroup_is_rejected(rounds: int) -> None:
    reports = simulate("0.15 worse in a subgroup", 500, HARMFUL, rounds)
    assert share(reports, Outcome.REJECTED) >= 0.8
    assert share(reports, Outcome.ACCEPTED) <= 0.05
    assert share_of(reports, lambda one: one.subgroup == "manufacturer=Cumae", "fail") >= 0.8


@pytest.mark.parametrize("rounds", ROUNDS)
def test_an_overfitted_one_is_rejected(rounds: int) -> None:
    reports = simulate("overfitted", 300, OVERFITTED, rounds)
    assert share(reports, Outcome.REJECTED) >= 0.95
    assert share(reports, Outcome.ACCEPTED) == 0


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("model", [CHAMPION, INFERIOR], ids=["equal", "inferior"])
@pytest.mark.parametrize("least", [50, 2])
def test_among_few_patients_it_cannot_tell(model: Model, least: int, rounds: int) -> None:
    """Not for the policy's least number of patients alone: the bounds say so too."""
    reports = simulate(f"own noise x{model.own}, at least {least}", 40, model, rounds, least_patients=least)
    assert share(reports, Outcome.CANNOT_TELL) >= 0.85
    assert share(reports, Outcome.ACCEPTED) <= 0.05
