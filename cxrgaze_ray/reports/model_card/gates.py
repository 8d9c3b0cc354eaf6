"""What the gate found of a version, from the reports that the ledger names; read leniently, for people."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.registry.ledger import Entry
from cxrgaze_ray.storage import Store

_NOTHING = "-"


@dataclass(frozen=True)
class Span:
    """Where a criterion's interval lies on its drawing, in percent of its width."""

    left: float
    width: float
    dot: float
    margin_left: float
    margin_width: float


@dataclass(frozen=True)
class Criterion:
    """One line of a gate's table."""

    name: str
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


@dataclass(frozen=True)
class Gate:
    """One judgement: `problem` says why its table can't be shown, or is empty."""

    number: int
    at: str
    who: str
    outcome: str
    why: str
    patients: str
    images: str
    criteria: tuple[Criterion, ...]
    problem: str


def read_gate(store: Store, entry: Entry) -> Gate:
    """Describe a gate entry; `store` is the model's folder."""
    report, problem = _report(store, entry)
    listed = report.get("criteria")
    found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    reach = max((abs(value) for one in found for value in _extent(one)), default=0.0)
    return Gate(
        number=entry.number,
        at=entry.at,
        who=entry.who,
        outcome=(entry.outcome or "unknown").replace("_", " "),
        why=_text(report.get("why")) or entry.reason,
        patients=_text(report.get("patients")),
        images=_text(report.get("images")),
        criteria=tuple(_criterion(one, reach) for one in found),
        problem=problem,
    )


def _report(store: Store, entry: Entry) -> tuple[dict[str, Any], str]:
    if entry.evidence is None:
        return {}, "The ledger names no report of this judgement."
    try:
        data = store.get(entry.evidence)
    except UserError:
        return {}, "The report that the ledger names is gone."
    if hashlib.sha256(data).hexdigest() != entry.evidence_sha256:
        return {}, "The report was edited after the gate had judged: it is not shown."
    try:
        report = json.loads(data)
    except ValueError:
        report = None
    return (report, "") if isinstance(report, dict) else ({}, "The report can't be read.")


def _criterion(one: dict[str, Any], reach: float) -> Criterion:
    low, high, margin = (_number(one.get(name)) for name in ("low", "high", "margin"))
    return Criterion(
        name=_title(one),
        rule=_text(one.get("rule")).replace("_", " "),
        champion=_shown(_number(one.get("champion"))),
        candidate=_shown(_number(one.get("candidate"))),
        difference=_shown(_number(one.get("difference")), sign=True),
        bounds=_NOTHING if low is None or high is None else f"{low:+.3f} to {high:+.3f}",
        margin=_shown(margin),
        patients=_text(one.get("patients") or None),
        verdict=_text(one.get("verdict")).replace("_", " ") or "unknown",
        why=_text(one.get("why")),
        span=_span(_number(one.get("difference")), low, high, margin, reach),
    )


def _title(one: dict[str, Any]) -> str:
    name, subgroup = _text(one.get("name")).replace("_", " "), _text(one.get("subgroup"))
    name = name.replace("auc", "AUC").replace("ece", "calibration error")
    return f"{name} ({subgroup})" if subgroup else name


def _extent(one: dict[str, Any]) -> list[float]:
    """Return what a criterion needs on the drawing that all criteria share."""
    low, high = _number(one.get("low")), _number(one.get("high"))
    return [] if low is None or high is None else [low, high, _number(one.get("margin")) or 0.0]


def _span(
    difference: float | None, low: float | None, high: float | None, margin: float | None, reach: float
) -> Span | None:
    if difference is None or low is None or high is None or not reach:
        return None

    def place(value: float) -> float:
        return 50 + 48 * max(-1.0, min(1.0, value / reach))

    wide = abs(margin or 0.0)
    return Span(
        left=place(low),
        width=place(high) - place(low),
        dot=place(difference),
        margin_left=place(-wide),
        margin_width=place(wide) - place(-wide),
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _shown(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return _NOTHING
    plain = value == 0 or 0.001 <= abs(value) < 100
    return f"{value:{'+' if sign else ''}{'.3f' if plain else '.4g'}}"


def _text(value: object) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value)
