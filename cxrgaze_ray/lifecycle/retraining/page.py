"""A retraining for people: why it was done, what the gate found, and what became of it. One HTML file."""

from __future__ import annotations

from collections.abc import Sequence

from cxrgaze_ray.evaluation.gate import Criterion, GateReport
from cxrgaze_ray.lifecycle.retraining.workspace import Conclusion, Spec
from cxrgaze_ray.registry.ledger import Entry
from cxrgaze_ray.reports.pages import render

_HEADLINES = {
    "accepted": "The candidate is no worse, as far as the policy asks.",
    "rejected": "The candidate is worse.",
    "cannot_tell": "There is too little to tell by.",
}


def retraining_page(spec: Spec, conclusion: Conclusion, report: GateReport, history: Sequence[Entry]) -> str:
    """Return the page.

    Parameters
    ----------
    spec, conclusion, report
        Of the retraining.
    history
        The model's ledger, oldest first; its last entries are shown.
    """
    shown = [one for one in report.criteria if one.verdict != "not_applicable"]
    return render(
        "retraining.html",
        spec=spec,
        conclusion=conclusion,
        report=report,
        headline=_HEADLINES[conclusion.outcome],
        criteria=[(one, _position(one)) for one in shown],
        left_out=[one for one in report.criteria if one.verdict == "not_applicable"],
        history=list(history)[-12:],
    )


def _position(one: Criterion) -> dict[str, float] | None:
    """Return where interval, estimate and margin lie on an axis from 0 to 100, whose middle is "no difference"."""
    if one.difference is None or one.low is None or one.high is None:
        return None
    reach = 1.15 * max(abs(one.low), abs(one.high), abs(one.margin or 0), 1e-6)
    place = {name: 50 + 50 * value / reach for name, value in
             (("low", one.low), ("high", one.high), ("difference", one.difference))}  # fmt: skip
    if one.margin is not None:
        # what counts as worse lies to the left, but for errors, which grow when things get worse
        place["margin"] = 50 + 50 * (one.margin if one.name == "ece" else -one.margin) / reach
    return place
