"""Verdicts on facts that need no statistics: golden outputs, latency, size, patients, looks at the test split."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cxrgaze_ray.evaluation.gate.report import Criterion, Verdict
from cxrgaze_ray.evaluation.gate.settings import GateSettings, ModelFacts
from cxrgaze_ray.models.settings import Answer


def checks(facts: ModelFacts, settings: GateSettings, patients: int, have: str = "a label") -> list[Criterion]:
    """Judge everything other than the predictions; of the patients, those count who have what is named."""
    return [
        _patients(patients, have, settings.least_patients),
        _golden(facts),
        _latency(facts.latency_ratio, settings.latency_ratio),
        _size(facts.size_mib, settings.size_mib),
        looks(facts.looks_used, min(facts.looks_of, settings.looks)),
    ]


def answers(champion: Sequence[Answer], candidate: Sequence[Answer]) -> list[Criterion]:
    """Refuse a candidate that does not predict all that the champion does."""
    if not (lost := [one for one in champion if one not in candidate]):
        return []
    why = f"The candidate does not predict {' and '.join(lost)}, which the champion does."
    return [_check("answers", "fail", why, None)]


def _patients(patients: int, have: str, least: int) -> Criterion:
    """Judge the number of patients; too few are not the candidate's fault."""
    enough = patients >= least
    why = f"{patients} patients have {have}, {'enough' if enough else f'{least} are needed'}."
    return _check("patients", "pass" if enough else "cannot_tell", why, patients, least)


def _golden(facts: ModelFacts) -> Criterion:
    how = "reproduces" if facts.golden_reproduced else "does not reproduce"
    why = f"The bundle {how} its recorded golden outputs: they differ by {facts.golden_difference:.2g} at most."
    return _check("golden outputs", "pass" if facts.golden_reproduced else "fail", why, facts.golden_difference)


def _latency(ratio: float | None, most: float) -> Criterion:
    """Judge the latency; one that was not measured may be within the budget or not."""
    if ratio is None or math.isnan(ratio):
        return _check("latency ratio", "cannot_tell", "The latency was not measured.", None, most)
    why = f"It takes {ratio:.2f} times the champion's latency; the policy allows {most:g}."
    return _check("latency ratio", "pass" if ratio <= most else "fail", why, ratio, most)


def _size(size_mib: float, most: float) -> Criterion:
    why = f"The bundle has {size_mib:.1f} MiB; the policy allows {most:g}."
    return _check("size in MiB", "pass" if size_mib <= most else "fail", why, size_mib, most)


def looks(used: int, most: int) -> Criterion:
    """Judge the budget of looks; a spent one is a fact about the test split, not about the candidate."""
    spent = used > most
    why = f"This test split was shown to {used} candidates; the policy allows {most}."
    why = f"{why[:-1]}: only a new test split can tell." if spent else why
    row = _check("looks", "cannot_tell" if spent else "pass", why, used, most)
    return row.model_copy(update={"rule": "budget"})


def _check(name: str, verdict: Verdict, why: str, value: float | None, limit: float | None = None) -> Criterion:
    known = None if value is None or not math.isfinite(value) else float(value)  # JSON has no infinity
    return Criterion(name=name, rule="check", candidate=known, margin=limit, verdict=verdict, why=why)
