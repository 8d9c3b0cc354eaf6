"""How often the gate errs, on made-up pairs of models whose true difference is known (see `tests.model_pairs`).

Every claim is simulated over 200 test sets; `-s` prints the rates. The quick version draws patients 200 times and looks
at no more subgroups than it must, so that fewer criteria stand in a candidate's way; the long one is the policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from cxrgaze_ray.evaluation.gate import Criterion, GateOutcome, GateReport, GateSettings, ModelFacts, judge
from cxrgaze_ray.evaluation.gate.compare import Pair
from cxrgaze_ray.evaluation.gate.criteria import non_inferiority
from tests.model_pairs import CHAMPION, HARMED, Model, table_pair, true_loss

SEEDS = 200
FACTS = ModelFacts(
    golden_reproduced=True, golden_difference=0.0, latency_ratio=1.0, size_mib=90, looks_used=1, looks_of=20
)
POLICY = GateSettings()
QUICK = GateSettings(rounds=200, facets=())
QUICK_GUARDS = GateSettings(rounds=200, facets=(HARMED[0],))

INFERIOR = Model(own=1.57)
"""Macro AUC 0.04 lower."""

AT_MARGIN = Model(own=1.297)
"""Macro AUC 0.02 lower: the best of the candidates that are not to be accepted."""

HARMFUL = Model(own_harmed=3.3)
"""Macro AUC 0.15 lower in one subgroup, of 15% of the patients; equal in the others, and calibrated in all."""

OVERFITTED = Model(own=1.15, temperature=0.6)
"""Probabilities sharpened; macro AUC 0.01 lower."""

OVERCONFIDENT = Model(temperature=0.905)
"""Calibration error 0.02 higher, at the margin; macro AUC equal. The champion's is 0, which is the hardest case."""


def cases(quick: GateSettings, *policy: int, patients: int) -> list[Any]:
    """Return (patients, settings): a quick case, and others by the default policy."""
    first = pytest.param(patients, quick, id=f"quick-{patients}")
    return [first, *(pytest.param(n, POLICY, id=f"policy-{n}", marks=pytest.mark.long) for n in policy)]


def simulate(title: str, patients: int, model: Model, settings: GateSettings) -> list[GateReport]:
    """Judge one candidate on 200 test sets, and print how often it got which outcome, and what decided."""
    reports = [judge(*table_pair(patients, seed, model), FACTS, settings) for seed in range(SEEDS)]
    outcomes = ", ".join(f"{outcome.value} {share(reports, outcome):.1%}" for outcome in GateOutcome)
    guarded = f"{len(settings.facets)} facets guarded"
    print(f"\n{title}, {patients} patients, {settings.rounds} draws, {guarded}: {outcomes}")
    for verdict in ("pass", "fail", "cannot_tell"):
        found = Counter(one.title for report in reports for one in report.criteria if one.verdict == verdict)
        main = {
            name: found[name] for name in ("AUC macro", "calibration error", "cc", f"AUC macro ({'='.join(HARMED)})")
        }
        print(f"  {verdict}:", ", ".join(f"{name} {count / SEEDS:.1%}" for name, count in main.items()))
    return reports


def share(reports: list[GateReport], outcome: GateOutcome) -> float:
    return sum(report.outcome is outcome for report in reports) / len(reports)


def share_of(reports: list[GateReport], chosen: Callable[[Criterion], bool], verdict: str) -> float:
    return sum(any(chosen(one) and one.verdict == verdict for one in r.criteria) for r in reports) / len(reports)


def is_auc(one: Criterion) -> bool:
    return (one.name, one.rule) == ("auc_macro", "non_inferiority")


@pytest.mark.long
def test_the_models_differ_by_what_is_said() -> None:
    assert true_loss(INFERIOR)[0] == pytest.approx(0.04, abs=0.001)
    assert true_loss(AT_MARGIN)[0] == pytest.approx(0.02, abs=0.001)
    assert true_loss(HARMFUL, harmed_only=True)[0] == pytest.approx(0.15, abs=0.004)
    loss, rise = true_loss(OVERFITTED)
    assert loss == pytest.approx(0.01, abs=0.002)
    assert rise > 0.08
    assert true_loss(OVERCONFIDENT)[1] == pytest.approx(0.02, abs=0.002)


@pytest.mark.parametrize(("patients", "settings"), cases(QUICK, 100, 400, patients=100))
def test_an_inferior_one_is_hardly_ever_accepted(patients: int, settings: GateSettings) -> None:
    reports = simulate("0.04 worse", patients, INFERIOR, settings)
    assert share(reports, GateOutcome.ACCEPTED) <= 0.05
    assert share_of(reports, is_auc, "pass") <= 0.05


@pytest.mark.long
@pytest.mark.parametrize("patients", [100, 400])
@pytest.mark.parametrize(("target", "model"), [("auc_macro", AT_MARGIN), ("ece", OVERCONFIDENT)], ids=["auc", "ece"])
def test_one_at_the_margin_passes_as_seldom_as_alpha_says(patients: int, target: Any, model: Model) -> None:
    passed = sum(
        non_inferiority(Pair.of(*table_pair(patients, seed, model), 1000, 0), target, 0.02, 0.05).verdict == "pass"
        for seed in range(SEEDS)
    )
    print(f"\n{target} at the margin, {patients} patients: {passed / SEEDS:.1%} pass")
    assert passed / SEEDS <= 0.1  # 5%, and three standard errors of 200 test sets


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("patients", "settings"), cases(QUICK, 600, 1200, patients=600))
def test_an_equal_one_passes_where_there_are_enough_patients(patients: int, settings: GateSettings) -> None:
    reports = simulate("equal", patients, CHAMPION, settings)
    assert share_of(reports, is_auc, "pass") >= 0.8
    assert share(reports, GateOutcome.ACCEPTED) >= 0.7
    assert share(reports, GateOutcome.REJECTED) <= 0.1


@pytest.mark.long
@pytest.mark.parametrize(("patients", "settings"), cases(QUICK_GUARDS, 500, patients=500))
def test_one_that_harms_a_single_subgroup_is_rejected(patients: int, settings: GateSettings) -> None:
    reports = simulate("0.15 worse in one subgroup", patients, HARMFUL, settings)
    assert share(reports, GateOutcome.REJECTED) >= 0.8
    assert share(reports, GateOutcome.ACCEPTED) <= 0.05
    assert share_of(reports, lambda one: one.subgroup == "=".join(HARMED), "fail") >= 0.8


@pytest.mark.long
@pytest.mark.parametrize(("patients", "settings"), cases(QUICK, 300, patients=300))
def test_an_overfitted_one_is_rejected(patients: int, settings: GateSettings) -> None:
    reports = simulate("overfitted", patients, OVERFITTED, settings)
    assert share(reports, GateOutcome.REJECTED) >= 0.9
    assert share(reports, GateOutcome.ACCEPTED) == 0


@pytest.mark.long
@pytest.mark.parametrize("model", [CHAMPION, INFERIOR], ids=["equal", "inferior"])
@pytest.mark.parametrize(("patients", "settings"), cases(QUICK, 40, patients=40))
def test_among_few_patients_it_cannot_tell(model: Model, patients: int, settings: GateSettings) -> None:
    """And an inferior one is not accepted either where the policy has no least number of patients."""
    by_policy = simulate(f"{'equal' if model == CHAMPION else '0.04 worse'}", patients, model, settings)
    assert share(by_policy, GateOutcome.CANNOT_TELL) == 1
    if model == INFERIOR:
        settings = settings.model_copy(update={"least_patients": 2})
        assert share(simulate("0.04 worse, no least", patients, model, settings), GateOutcome.ACCEPTED) <= 0.05
