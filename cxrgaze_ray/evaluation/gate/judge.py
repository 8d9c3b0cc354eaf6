"""The gate: predictions of two models and a policy in, outcome and reasons out. No clock, no disk, one seed."""

from __future__ import annotations

from collections.abc import Iterator

from cxrgaze_ray.evaluation.gate.checks import answers, checks, looks
from cxrgaze_ray.evaluation.gate.compare import Pair
from cxrgaze_ray.evaluation.gate.criteria import (
    calibration,
    centre_bias,
    guards,
    non_inferiority,
    saliency,
    superiority,
)
from cxrgaze_ray.evaluation.gate.report import Criterion, GateOutcome, GateReport
from cxrgaze_ray.evaluation.gate.settings import GateSettings, ModelFacts
from cxrgaze_ray.evaluation.table import EvaluationTable


def judge(
    champion: EvaluationTable, candidate: EvaluationTable, facts: ModelFacts, settings: GateSettings
) -> GateReport:
    """Judge a candidate against the champion by their predictions for the same images.

    Any criterion that fails rejects the candidate, but with fewer than `least_patients` labelled patients only facts
    do: golden outputs, latency and size. Otherwise, any that cannot tell leaves the outcome open, too few
    labelled patients and a spent budget of looks among them. Otherwise it is accepted. No label, one class only or no
    image at all is not an error: the gate cannot tell. Every criterion must pass, so each one's risk is the outcome's:
    no correction for their number is needed.

    What neither model predicts is not judged; between models of saliency alone, patients with gaze count in place of
    labelled ones. A candidate that does not predict what the champion does is rejected for that.

    Raises
    ------
    ValueError
        If the tables do not cover the same images in the same order: see `Pair.of`.
    """
    pair = Pair.of(champion, candidate, settings.rounds, settings.seed)
    by_label = "classes" in champion.predicts
    known, have = (pair.labelled(), "a label") if by_label else (pair.seen(), "gaze")
    patients = known.patients
    lost = answers(champion.predicts, candidate.predicts)
    compared = lost or [*_of_classes(pair, settings), *_of_saliency(pair, settings), *_of_both(pair, settings)]
    criteria = (*compared, *checks(facts, settings, patients, have))
    if patients < settings.least_patients:
        criteria = tuple(_withheld(criterion) for criterion in criteria)
    outcome = _outcome(criteria)
    return GateReport(
        outcome=outcome, criteria=criteria, settings=settings, patients=patients, images=len(known),
        why=_why(outcome, criteria, patients),
    )  # fmt: skip


def _of_classes(pair: Pair, settings: GateSettings) -> Iterator[Criterion]:
    if pair.predict("classes"):
        yield non_inferiority(pair.labelled(), "auc_macro", settings.auc_margin, settings.alpha)
        yield calibration(pair, settings)


def _of_saliency(pair: Pair, settings: GateSettings) -> Iterator[Criterion]:
    if "saliency" in pair.candidate.predicts:
        yield saliency(pair, settings)
        yield from centre_bias(pair, settings)


def _of_both(pair: Pair, settings: GateSettings) -> Iterator[Criterion]:
    yield from superiority(pair, settings)
    if pair.predict("classes"):
        yield from guards(pair, settings)


def _withheld(criterion: Criterion) -> Criterion:
    """Turn a statistical verdict against the candidate into doubt: there are too few patients for it."""
    if criterion.rule == "check" or criterion.verdict != "fail":
        return criterion
    why = f"{criterion.why} But there are too few patients."
    return criterion.model_copy(update={"verdict": "cannot_tell", "why": why})


def spent(used: int, settings: GateSettings) -> GateReport:
    """Return the report on a candidate that was not looked at because the budget of looks is spent: it cannot tell.

    Parameters
    ----------
    used
        Number of candidates that the test split was shown to.
    """
    criterion = looks(used + 1, settings.looks)
    return GateReport(
        outcome=GateOutcome.CANNOT_TELL, criteria=(criterion,), settings=settings, patients=0, images=0,
        why=f"The test split was shown to {used} candidates already, and was not used again.",
    )  # fmt: skip


def _outcome(criteria: tuple[Criterion, ...]) -> GateOutcome:
    verdicts = {criterion.verdict for criterion in criteria}
    if "fail" in verdicts:
        return GateOutcome.REJECTED
    return GateOutcome.CANNOT_TELL if "cannot_tell" in verdicts else GateOutcome.ACCEPTED


def _why(outcome: GateOutcome, criteria: tuple[Criterion, ...], patients: int) -> str:
    if outcome is GateOutcome.ACCEPTED:
        return f"Every criterion passes, on {patients} patients."
    rejected = outcome is GateOutcome.REJECTED
    reasons = [criterion for criterion in criteria if criterion.verdict == ("fail" if rejected else "cannot_tell")]
    said = reasons[0].why
    return said if len(reasons) == 1 else f"{said} {len(reasons) - 1} more of {len(criteria)} criteria say the same."
