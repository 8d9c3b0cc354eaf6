"""A retraining for people: why it was done, what the gate found, and how it ended. One HTML file."""

from __future__ import annotations

from collections.abc import Sequence

from cxrgaze_ray.evaluation.gate import GateReport, gate_rows, left_out
from cxrgaze_ray.lifecycle.retraining.workspace import Conclusion, Spec
from cxrgaze_ray.registry.ledger import Entry
from cxrgaze_ray.reports.pages import render

_HEADLINES = {
    "accepted": "The candidate is no worse, as far as the policy asks.",
    "rejected": "The candidate is worse.",
    "cannot_tell": "There is too little data to tell.",
}


def retraining_page(spec: Spec, conclusion: Conclusion, report: GateReport, history: Sequence[Entry]) -> str:
    """Return the page.

    Parameters
    ----------
    spec, conclusion, report
        The request, its end, and the gate's findings.
    history
        The model's ledger, oldest first; its last entries are shown.
    """
    return render(
        "retraining.html",
        spec=spec,
        conclusion=conclusion,
        report=report,
        headline=_HEADLINES[conclusion.outcome],
        rows=gate_rows(report.judged),
        left_out=left_out(report.criteria),
        history=list(history)[-12:],
    )
