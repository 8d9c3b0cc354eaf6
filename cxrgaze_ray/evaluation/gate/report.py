"""A gate's findings: one criterion per row, and the outcome they lead to."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from cxrgaze_ray.config import Record
from cxrgaze_ray.errors import EXIT_CANNOT_TELL, EXIT_DONE, EXIT_REJECTED
from cxrgaze_ray.evaluation.gate.settings import GateSettings

Rule = Literal["non_inferiority", "superiority", "baseline", "guard", "check", "budget"]
Verdict = Literal["pass", "fail", "cannot_tell", "not_applicable"]


class GateOutcome(StrEnum):
    """The gate's answer about a candidate."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    CANNOT_TELL = "cannot_tell"


_EXIT = {
    GateOutcome.ACCEPTED: EXIT_DONE,
    GateOutcome.REJECTED: EXIT_REJECTED,
    GateOutcome.CANNOT_TELL: EXIT_CANNOT_TELL,
}


class Criterion(Record):
    """One thing that was judged, and everything that its verdict rests on."""

    name: str
    """A target of `settings.Target`, or the subject of a check."""

    subgroup: str | None = None
    """`facet=value` of the images judged; None for all."""

    rule: Rule
    """Rule by which the verdict follows from the numbers: see `criteria` and `checks`."""

    champion: float | None = None
    candidate: float | None = None
    """Each model's value; None where it is undefined or does not exist. By the rule `baseline`, the first is the
    baseline's."""

    difference: float | None = None
    """Candidate minus champion, as measured on these images."""

    low: float | None = None
    high: float | None = None
    """One-sided bounds of the true difference, each at the rule's own confidence; None where they have no meaning."""

    margin: float | None = None
    """Tolerated difference; for a check, its limit."""

    verdict: Verdict
    patients: int = 0
    images: int = 0
    """Number of patients and images behind the numbers."""

    why: str
    """One sentence for people."""

    @property
    def beside(self) -> Literal["champion", "baseline"]:
        """Whose value stands beside the candidate's."""
        return "baseline" if self.rule == "baseline" else "champion"

    @property
    def title(self) -> str:
        """Name and subgroup, for people."""
        if self.rule == "baseline":
            return "shuffled AUC against the centre-bias baseline"
        name = self.name.replace("_", " ").replace("auc", "AUC").replace("ece", "calibration error")
        return f"{name} ({self.subgroup})" if self.subgroup else name


class GateReport(Record):
    """The outcome with the table that led to it."""

    outcome: GateOutcome
    criteria: tuple[Criterion, ...]
    settings: GateSettings
    patients: int
    images: int
    """Labelled images; between models that predict saliency only, those that somebody looked at."""

    why: str
    """One sentence for people, beside the outcome."""

    @property
    def judged(self) -> tuple[Criterion, ...]:
        """Criteria that could be judged: the rest are not applicable."""
        return tuple(criterion for criterion in self.criteria if criterion.verdict != "not_applicable")

    @property
    def exit_code(self) -> int:
        """Exit code of the calling command: 0 accepted, 10 rejected, 11 cannot tell."""
        return _EXIT[self.outcome]
