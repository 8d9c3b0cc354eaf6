"""An evaluation's figures by sex, age, view and manufacturer, with the number of images behind each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cxrgaze_ray.evaluation.statistics import Interval, draw_patients, interval, mean, statistic_of, value_of
from cxrgaze_ray.evaluation.table import EvaluationTable, Target
from cxrgaze_ray.schemas import NOT_STATED

LEAST_PATIENTS = 10
"""Patients below which a subgroup has no figures: they would say nothing of it, and something of its patients."""

OTHERS = "others"
"""What all subgroups of fewer patients are called."""

_TARGETS: tuple[Target, ...] = ("auc_macro", "accuracy")


@dataclass(frozen=True)
class Subgroup:
    """The images that have a fact in common.

    Attributes
    ----------
    facet, value
        Name of the fact, one of `table.FACETS`, and what the files state; NOT_STATED where they state nothing, OTHERS
        for the values of too few patients.
    figures
        Macro AUC and accuracy of its labelled images, CC of those with gaze, with 95% intervals by patient; without
        those that are undefined.
    why
        Why it has no figures; empty if it has.
    """

    facet: str
    value: str
    images: int
    patients: int
    figures: dict[str, Interval] = field(default_factory=dict)
    why: str = ""


def subgroups(table: EvaluationTable, rounds: int, seed: int) -> tuple[Subgroup, ...]:
    """Return the subgroups of a table by every fact that some file states, unstated ones last."""
    found: list[Subgroup] = []
    for facet, values in table.facets.items():
        stated = np.array([NOT_STATED if value is None else value for value in values], dtype=object)
        names = sorted({*stated}, key=lambda name: (name == NOT_STATED, name))
        if names != [NOT_STATED]:
            found += _of_facet(facet, {name: table.take(np.asarray(stated == name)) for name in names}, rounds, seed)
    return tuple(found)


def _of_facet(facet: str, parts: dict[str, EvaluationTable], rounds: int, seed: int) -> Iterator[Subgroup]:
    """Yield the large enough subgroups, then the others as one, unnamed: a word in a tag may be of one patient."""
    small = [part for part in parts.values() if not _enough(part)]
    for value, part in parts.items():
        if _enough(part):
            figures = dict(_figures(part, rounds, seed))
            why = "" if figures else "too few patients with a label or gaze"
            yield Subgroup(facet, value, len(part), len(set(part.patients)), figures, why)
    if small:
        patients = {patient for part in small for patient in part.patients}
        why = f"fewer than {LEAST_PATIENTS} patients" + (" each" if len(small) > 1 else "")
        yield Subgroup(facet, OTHERS, sum(map(len, small)), len(patients), why=why)


def _figures(part: EvaluationTable, rounds: int, seed: int) -> Iterator[tuple[str, Interval]]:
    labelled = part.labelled()
    if "classes" in part.predicts and _enough(labelled):
        draws = draw_patients(labelled.patients, rounds, seed)
        for target in _TARGETS:
            statistic = statistic_of(labelled, target)
            if (found := interval(value_of(statistic, len(labelled)), draws.apply(statistic))) is not None:
                yield target, found
    seen = part.take(~np.isnan(part.scores("cc")))
    if _enough(seen):
        cc_N = seen.scores("cc")
        draws = draw_patients(seen.patients, rounds, seed)
        found = interval(float(cc_N.mean()), draws.apply(lambda weights_NR: mean(cc_N, weights_NR)))
        assert found is not None
        yield "cc", found


def _enough(part: EvaluationTable) -> bool:
    return len(set(part.patients)) >= LEAST_PATIENTS
