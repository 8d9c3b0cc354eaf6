"""The gate: predictions of two models and a policy in, outcome and reasons out. No clock, no disk, one seed."""

from __future__ import annotations

from cxrgaze_ray.evaluation.gate.checks import checks, looks
from cxrgaze_ray.evaluation.gate.compare import Pair
from cxrgaze_ray.evaluation.gate.criteria import calibration, guards, non_inferiority, saliency, superiority
from cxrgaze_ray.evaluation.gate.report import Criterion, GateReport, Outcome
from cxrgaze_ray.evaluation.gate.settings import Facts, GateSettings
from cxrgaze_ray.evaluation.table import EvaluationTable


def judge(champion: EvaluationTable, candidate: EvaluationTable, facts: Facts, settings: GateSettings) -> GateReport:
    """Judge a candidate against the champion by their predictions for the same images.

    Any criterion that fails rejects the candidate, but with fewer than `least_patients` labelled patients only facts
    do: golden outputs, latency and size. Else, any that cannot tell leaves the outcome open, too few
    labelled patients and a spent budget of looks among them. Else it is accepted. No label, one class only or no
    image at all are no errors: the gate cannot tell. Every criterion must pass, so each one's risk is the outcome's:
    no correction is due for their number.

    Raises
    ------
    ValueError
        If the tables are not of the same images in the same order: see `Pair.of`.
    """
    pair = Pair.of(champion, candidate, settings.rounds, settings.seed)
    known = pair.labelled()
    patients = known.patients
    criteria = (
        non_inferiority(known, "auc_macro", settings.auc_margin, settings.alpha),
        calibration(pair, settings),
        saliency(pair, settings),
        *superiority(pair, settings),
        *guards(pair, settings),
        *checks(facts, settings, patients),
    )
    if patients < settings.least_patients:
        criteria = tuple(_withheld(one) for one in criteria)
    outcome = _outcome(criteria)
    return GateReport(
        outcome=outcome, criteria=criteria, settings=settings, patients=patients, images=len(known),
        why=_why(outcome, criteria, patients),
    )  # fmt: skip


def _withheld(one: Criterion) -> Criterion:
    """Turn a verdict of statistics against the candidate into doubt: there are too few patients to say so."""
    if one.rule == "check" or one.verdict != "fail":
        return one
    return one.model_copy(update={"verdict": "cannot_tell", "why": f"{one.why} But there are too few patients."})


def spent(used: int, settings: GateSettings) -> GateReport:
    """Return the report on a candidate that was not looked at, since the budget of looks is spent: it cannot tell.

    Parameters
    ----------
    used
        Candidates that the test split was shown to.
    """
    criterion = looks(used + 1, settings.looks)
    return GateReport(
        outcome=Outcome.CANNOT_TELL, criteria=(criterion,), settings=settings, patients=0, images=0,
        why=f"Cannot tell: the test split was shown to {used} candidates already, and was not looked at again.",
    )  # fmt: skip


def _outcome(criteria: tuple[Criterion, ...]) -> Outcome:
    verdicts = {one.verdict for one in criteria}
    if "fail" in verdicts:
        return Outcome.REJECTED
    return Outcome.CANNOT_TELL if "cannot_tell" in verdicts else Outcome.ACCEPTED


def _why(outcome: Outcome, criteria: tuple[Criterion, ...], patients: int) -> str:
    if outcome is Outcome.ACCEPTED:
        return f"Accepted: every criterion passes, on {patients} patients."
    rejected = outcome is Outcome.REJECTED
    reasons = [one for one in criteria if one.verdict == ("fail" if rejected else "cannot_tell")]
    said = f"{'Rejected' if rejected else 'Cannot tell'}: {reasons[0].why}"
    return said if len(reasons) == 1 else f"{said} {len(reasons) - 1} more of {len(criteria)} criteria say the same."
