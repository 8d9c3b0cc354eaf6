"""A gate's criteria as rows of one table, for the terminal, every page and the model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cxrgaze_ray.evaluation.gate.report import Criterion
from cxrgaze_ray.evaluation.statistics import lower_is_better

COLUMNS = ["criterion", "rule", "champion", "candidate", "difference", "bounds", "margin", "patients", "verdict"]


@dataclass(frozen=True)
class Span:
    """Position of a difference on its drawing, in percent of a width whose middle is "no difference"."""

    low: float
    high: float
    difference: float
    margin: float | None


@dataclass(frozen=True)
class GateRow:
    """A criterion as texts, which are empty where there is nothing to show, and as a drawing."""

    criterion: str
    rule: str
    champion: str
    candidate: str
    difference: str
    bounds: str
    margin: str
    patients: str
    verdict: str
    why: str
    span: Span | None

    def cells(self) -> list[str]:
        """Return the texts in the order of `COLUMNS`."""
        return [str(getattr(self, column)) for column in COLUMNS]


def gate_rows(criteria: Sequence[Criterion]) -> list[GateRow]:
    """Return a row for each criterion; all drawings share one axis, so that their widths can be compared."""
    reach = max((abs(end) for criterion in criteria for end in _extent(criterion)), default=0.0)
    return [_row(criterion, reach) for criterion in criteria]


def _row(criterion: Criterion, reach: float) -> GateRow:
    form = ".4g" if criterion.rule in ("check", "budget") else ".3f"  # counts and limits, or metrics
    low, high = criterion.low, criterion.high
    return GateRow(
        criterion=criterion.title,
        rule=criterion.rule.replace("_", "-"),
        champion=_beside(criterion, form),
        candidate=_number(criterion.candidate, form),
        difference=_number(criterion.difference, "+.3f"),
        bounds="" if low is None or high is None else f"{low:+.3f} to {high:+.3f}",
        margin=_number(criterion.margin, "g"),
        patients=str(criterion.patients or ""),
        verdict=criterion.verdict.replace("_", " "),
        why=criterion.why,
        span=_span(criterion, reach),
    )


def left_out(criteria: Sequence[Criterion]) -> str:
    """Return a sentence on the criteria that were not judged, with the patients of each; empty if all were."""
    rest = [one for one in criteria if one.verdict == "not_applicable"]
    named = ", ".join(f"{(one.subgroup or one.title).replace('_', ' ')} ({one.patients})" for one in rest)
    return f"Not judged, for lack of patients or of the data they need: {named}." if rest else ""


def _beside(criterion: Criterion, form: str) -> str:
    """Say whose value it is where it is not the champion's, as the column's head has it."""
    value = _number(criterion.champion, form)
    return f"{value} ({criterion.beside})" if value and criterion.beside != "champion" else value


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _extent(criterion: Criterion) -> tuple[float, ...]:
    if criterion.low is None or criterion.high is None:
        return ()
    return criterion.low, criterion.high, criterion.margin or 0.0


def _span(criterion: Criterion, reach: float) -> Span | None:
    if criterion.difference is None or criterion.low is None or criterion.high is None or not reach:
        return None
    # worse lies to the left, except for errors, which grow when things get worse
    worse = 1 if lower_is_better(criterion.name) else -1

    def place(value: float) -> float:
        return 50 + 48 * value / reach

    return Span(
        low=place(criterion.low),
        high=place(criterion.high),
        difference=place(criterion.difference),
        margin=None if criterion.margin is None else place(worse * criterion.margin),
    )
