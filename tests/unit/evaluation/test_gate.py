"""The gate as a whole: outcomes, what it refuses, and the report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cxrgaze_ray.evaluation.gate import (
    COLUMNS,
    GateOutcome,
    GateReport,
    GateSettings,
    ModelFacts,
    Superiority,
    gate_rows,
    judge,
)
from cxrgaze_ray.evaluation.table import UNKNOWN, EvaluationTable, EvaluationTableBuilder, score_columns
from cxrgaze_ray.models.settings import BOTH, Answer
from tests.model_pairs import CHAMPION, Model, table_pair

SETTINGS = GateSettings(rounds=300, ece_margin=0.05)
FACTS = ModelFacts(
    golden_reproduced=True, golden_difference=0.0, latency_ratio=1.0, size_mib=90, looks_used=1, looks_of=20
)


def gate(patients: int, model: Model = CHAMPION, facts: ModelFacts = FACTS) -> GateReport:
    return judge(*table_pair(patients, 3, model), facts, SETTINGS)


def test_one_as_good_is_accepted() -> None:
    report = gate(1000)
    assert (report.outcome, report.exit_code) == (GateOutcome.ACCEPTED, 0)
    assert report.patients == 1000
    assert report.why == "Every criterion passes, on 1000 patients."


def test_a_worse_one_is_rejected() -> None:
    report = gate(1000, Model(own=2))
    assert (report.outcome, report.exit_code) == (GateOutcome.REJECTED, 10)
    assert report.why.startswith("Macro AUC is ")


def test_few_patients_leave_it_open() -> None:
    report = gate(40)
    assert (report.outcome, report.exit_code) == (GateOutcome.CANNOT_TELL, 11)
    assert "say the same" in report.why


def test_a_fault_outweighs_what_cannot_be_told() -> None:
    facts = FACTS.model_copy(update={"golden_reproduced": False, "looks_used": 99})
    assert gate(40, facts=facts).outcome is GateOutcome.REJECTED


def test_a_spent_budget_rejects_nobody() -> None:
    report = gate(1000, facts=FACTS.model_copy(update={"looks_used": 21}))
    assert report.outcome is GateOutcome.CANNOT_TELL
    assert report.why == (
        "This test split was shown to 21 candidates; the policy allows 20: only a new test split can tell."
    )


def test_the_same_answers_give_the_same_report() -> None:
    assert gate(80) == gate(80)


def test_a_model_against_itself_is_no_worse_and_no_better() -> None:
    same, _ = table_pair(60, 0)
    report = judge(same, same, FACTS, SETTINGS)
    assert report.outcome is GateOutcome.ACCEPTED
    assert {one.difference for one in report.criteria if one.champion is not None} == {0.0}


@pytest.mark.parametrize("labels", [UNKNOWN, 1])
def test_without_labels_or_with_one_class_only_it_cannot_tell(labels: int) -> None:
    champion, candidate = (replace(one, labels_N=np.full(len(one), labels)) for one in table_pair(100, 0))
    report = judge(champion, candidate, FACTS, SETTINGS)
    assert report.outcome is GateOutcome.CANNOT_TELL
    assert report.criteria[0].why.startswith("Macro AUC ")
    assert report.patients == (0 if labels == UNKNOWN else 100)


def test_without_patients_it_cannot_tell() -> None:
    nothing = EvaluationTableBuilder().build()
    report = judge(nothing, nothing, FACTS, SETTINGS)
    assert (report.outcome, report.patients, report.images) == (GateOutcome.CANNOT_TELL, 0, 0)


def only(table: EvaluationTable, answer: Answer) -> EvaluationTable:
    """Return what a model that predicts nothing else would have answered."""
    if answer == "classes":
        return replace(table, predicts=("classes",), maps_NM=score_columns(len(table)))
    return replace(table, predicts=("saliency",), probabilities_NK=np.full_like(table.probabilities_NK, np.nan))


@pytest.mark.parametrize("answer", BOTH)
def test_what_neither_predicts_is_not_judged(answer: Answer) -> None:
    champion, candidate = (only(one, answer) for one in table_pair(1000, 3))
    report = judge(champion, candidate, FACTS, SETTINGS)
    judged = {one.name for one in report.judged if one.rule not in ("check", "budget")}
    assert report.outcome is GateOutcome.ACCEPTED
    assert judged == ({"auc_macro", "ece"} if answer == "classes" else {"cc"})
    patients = next(one for one in report.criteria if one.name == "patients")
    assert (patients.why, report.patients) == (
        ("1000 patients have a label, enough.", 1000)
        if answer == "classes"
        else (f"{report.patients} patients have gaze, enough.", len({*np.array(champion.patients)[champion.seen_N]}))
    )


@pytest.mark.parametrize("answer", BOTH)
def test_one_that_predicts_less_than_the_champion_is_rejected_for_that(answer: Answer) -> None:
    champion, candidate = table_pair(100, 3)
    report = judge(champion, only(candidate, answer), FACTS, SETTINGS)
    lost = "saliency" if answer == "classes" else "classes"
    assert (report.outcome, report.why) == (
        GateOutcome.REJECTED,
        f"The candidate does not predict {lost}, which the champion does.",
    )


def test_one_that_predicts_more_is_judged_by_what_both_predict() -> None:
    champion, candidate = table_pair(1000, 3)
    asked = SETTINGS.model_copy(update={"superiority": Superiority(target="cc")})
    report = judge(only(champion, "classes"), candidate, FACTS, asked)
    cc = [(one.rule, one.verdict, one.why) for one in report.criteria if one.name == "cc"]
    assert cc == [
        ("non_inferiority", "not_applicable", "The champion predicts no saliency."),
        ("superiority", "cannot_tell", "Saliency CC cannot be compared: not both models predict saliency."),
    ]
    assert judge(only(champion, "classes"), candidate, FACTS, SETTINGS).outcome is GateOutcome.ACCEPTED


def test_few_patients_with_gaze_leave_it_open_between_models_of_saliency() -> None:
    champion, candidate = (only(one, "saliency") for one in table_pair(60, 3, Model(cc_loss=0.4)))
    report = judge(champion, candidate, FACTS, SETTINGS)
    assert (report.outcome, report.patients < 50) == (GateOutcome.CANNOT_TELL, True)
    assert report.why.startswith(f"{report.patients} patients have gaze, 50 are needed.")


def shuffled(table: EvaluationTable) -> EvaluationTable:
    return table.take(np.arange(len(table))[::-1])


def test_answers_to_other_images_are_refused() -> None:
    champion, candidate = table_pair(60, 0)
    with pytest.raises(ValueError, match="same images in the same order"):
        judge(champion, shuffled(candidate), FACTS, SETTINGS)
    with pytest.raises(ValueError, match="same images in the same order"):
        judge(champion, candidate.take(np.arange(5)), FACTS, SETTINGS)


def test_answers_that_disagree_on_the_truth_are_refused() -> None:
    champion, candidate = table_pair(60, 0)
    for other in (
        replace(candidate, labels_N=(candidate.labels_N + 1) % 3),
        replace(candidate, patients=candidate.image_ids),
        replace(candidate, seen_N=~candidate.seen_N),
    ):
        with pytest.raises(ValueError, match="differ in patients, labels or gaze"):
            judge(champion, other, FACTS, SETTINGS)


def test_answers_that_are_no_numbers_are_refused() -> None:
    champion, candidate = table_pair(60, 0)
    candidate.probabilities_NK[3, 1] = np.nan
    with pytest.raises(ValueError, match="not a number"):
        judge(champion, candidate, FACTS, SETTINGS)


@pytest.mark.parametrize("patients", [40, 400])
def test_a_report_survives_being_stored(patients: int) -> None:
    report = gate(patients, facts=FACTS.model_copy(update={"golden_difference": float("inf")}))
    again = GateReport.model_validate_json(report.model_dump_json(indent=2))
    assert again == report
    assert again.settings == SETTINGS


def test_the_table_has_a_row_a_criterion() -> None:
    report = gate(400)
    rows = gate_rows(report.criteria)
    assert len(rows) == len(report.criteria)
    assert all(len(row.cells()) == len(COLUMNS) for row in rows)
    assert (rows[0].criterion, rows[0].rule, rows[0].margin) == ("AUC macro", "non-inferiority", "0.02")
    assert " to " in rows[0].bounds
    verdicts = {row.criterion: row.verdict for row in rows}
    assert list(verdicts)[1:3] == ["calibration error", "cc"]
    assert verdicts["AUC macro (sex=not stated)"] == "not applicable"
    assert next(row.candidate for row in rows if row.criterion == "patients") == "400"


def test_drawings_share_an_axis_and_the_margin_lies_where_worse_is() -> None:
    criteria = gate(400).criteria
    spans = {row.criterion: row.span for row in gate_rows(criteria)}
    scales = [
        (span.high - span.low) / (criterion.high - criterion.low)
        for criterion, span in zip(criteria, spans.values(), strict=True)
        if span and criterion.low is not None and criterion.high is not None
    ]
    assert len(scales) > 3
    assert scales == pytest.approx([scales[0]] * len(scales))
    auc, error = spans["AUC macro"], spans["calibration error"]
    assert auc is not None
    assert error is not None
    assert auc.margin is not None
    assert error.margin is not None
    assert 0 <= auc.margin < 50 < error.margin <= 100
    assert spans["golden outputs"] is None


def test_no_reason_names_a_patient_or_an_image() -> None:
    old, new = (secret(one) for one in table_pair(60, 0))
    assert "SECRET" not in judge(old, new, FACTS, SETTINGS).model_dump_json()


def secret(table: EvaluationTable) -> EvaluationTable:
    """Mark what must not be told."""
    names = tuple(f"SECRET-{name}" for name in table.patients)
    return replace(table, patients=names, image_ids=tuple(f"SECRET-{name}" for name in table.image_ids))
