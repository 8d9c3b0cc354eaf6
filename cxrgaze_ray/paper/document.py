"""The tables as Markdown, CSV and HTML."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from cxrgaze_ray.evaluation.paired import PairedTest
from cxrgaze_ray.models.settings import CONFIGS, Answer, System
from cxrgaze_ray.paper.cells import (
    ABLATIONS,
    DIAGNOSIS,
    ORDER,
    SALIENCY,
    SIGNIFICANT,
    Comparison,
    Figure,
    Row,
    compare,
    table_rows,
)
from cxrgaze_ray.paper.reported import OURS, TITLES, Measure
from cxrgaze_ray.paper.run import Results
from cxrgaze_ray.reports.pages import render

_TITLES: dict[Answer, str] = {"classes": "Table 1. Diagnosis", "saliency": "Table 2. Saliency"}
_MEASURES: dict[Answer, dict[Measure, str]] = {"classes": DIAGNOSIS, "saliency": SALIENCY}
_TESTS = {"t": "paired t-test", "mcnemar": "McNemar", "bootstrap": "bootstrap of patients"}
_CSV = (
    "table", "system", "seed", "measure", "value", "std_over_images", "low", "high", "p", "test", "why", "paper",
    "paper_std",
)  # fmt: skip

UNTESTED = "†"
"""Mark of a figure that could not be tested against ours."""

MEANINGS = (
    "AUC: area under the ROC curve. KL: Kullback-Leibler divergence of the predicted map from the readers' gaze. CC: "
    "their correlation. HS: histogram similarity, the mass that both share. NSS: normalised scanpath saliency, the "
    "map's value where readers looked, in standard deviations. Shuffled AUC: how well the map tells places looked at "
    "in this image from places looked at in others; 0.5 for any map that is the same for all. ↑ more is better, ↓ less."
)
"""What the measures are, for people."""


@dataclass(frozen=True)
class Facts:
    """What the document says of how its figures came about.

    Attributes
    ----------
    images
        Images of each split.
    notes
        Sentences that must stand beside the figures, such as that these are phantoms.
    """

    store: str
    preset: str
    images: dict[str, int]
    notes: tuple[str, ...] = ()
    command: str = ""


def documents(
    results: Results,
    facts: Facts,
    roc: bytes | None = None,
    qualitative: bytes | None = None,
    *,
    explains: bool = False,
) -> dict[str, bytes]:
    """Return tables.md, tables.html and tables.csv, by name; pictures go into the page and beside the Markdown.

    `explains` tells whether the qualitative figure has Grad-CAM.
    """
    tables = {answer: table_rows(results, answer) for answer in _TITLES}
    context = {
        "facts": facts,
        "seeds": results.settings.seeds,
        "tables": [_laid_out(answer, rows) for answer, rows in tables.items() if rows],
        "ablations": ablation_sentences(results),
        "order": order_sentences(results),
        "significant": SIGNIFICANT,
        "beyond": beyond_chance(tables),
        "ours": TITLES[OURS] if results.of(OURS) else "",
        "untested": untested_because(tables),
        "lost": [f"{TITLES[system]}, seed {seed}: {why}" for (system, seed), why in _lost(results)],
        "explains": explains,
        "meanings": MEANINGS,
        "reads_gaze": _titles_that_read_gaze(tables["classes"]),
    }
    pictures = {"roc": roc, "qualitative": qualitative}
    names = {"roc": "roc.svg", "qualitative": "qualitative.png"}
    found = {names[name]: data for name, data in pictures.items() if data is not None}
    files = {name: (names[name] if data else None) for name, data in pictures.items()}
    inline = {name: _data_uri(names[name], data) if data else None for name, data in pictures.items()}
    return found | {
        "tables.md": (render("paper.md", **context, pictures=files) + "\n").encode(),
        "tables.html": render("paper.html", **context, pictures=inline).encode(),
        "tables.csv": _csv(tables).encode(),
    }


def _lost(results: Results) -> list[tuple[tuple[System, int], str]]:
    """Return the seeds that are missing of systems that others were tested of."""
    return [(key, why) for key, why in results.left_out.items() if key[0] in TITLES and results.of(key[0])]


def _titles_that_read_gaze(rows: Sequence[Row]) -> list[str]:
    """Return the titles of rows whose system sees the gaze on the image that it is tested with."""
    return [row.title for row in rows if not row.left_out and CONFIGS[row.name].needs_gaze]


def _data_uri(name: str, data: bytes) -> str:
    kind = "image/svg+xml" if name.endswith(".svg") else "image/png"
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _laid_out(answer: Answer, rows: Sequence[Row]) -> dict[str, Any]:
    measures = _MEASURES[answer]
    return {
        "title": _TITLES[answer],
        "measures": [f"{name} {'↓' if measure == 'kl' else '↑'}" for measure, name in measures.items()],
        "rows": [
            {
                "title": row.title,
                "images": row.images,
                "system": row.name in TITLES,
                "left_out": row.left_out,
                "cells": [
                    {"text": cell_text(row.figures[measure]), "paper": row.reported(measure)}
                    for measure in measures
                    if measure in row.figures
                ],
            }
            for row in rows
        ],
    }


def cell_text(figures: Sequence[Figure]) -> str:
    """Return a cell for people: value, deviation or spread, interval, and a mark where a difference is significant."""
    known = [figure.value for figure in figures if figure.value is not None]
    if not known:
        return figures[0].why
    if len(figures) > 1:
        spread = f"{fmean(known):.3f}" + (f" ± {stdev(known):.3f}" if len(known) > 1 else "")
        lost = f", {len(figures) - len(known)} undefined" if len(known) < len(figures) else ""
        return f"{spread} ({len(known)} seeds{lost}){_marks(figures)}{_notes(figures)}"
    one = figures[0]
    deviation = "" if one.deviation is None else f" ± {one.deviation:.3f}"
    return f"{one.value:.3f}{deviation} [{one.low:.3f} to {one.high:.3f}]{_marks(figures)}{_notes(figures)}"


def _notes(figures: Sequence[Figure]) -> str:
    notes = dict.fromkeys(figure.note for figure in figures if figure.note)
    return "".join(f", {note}" for note in notes)


def _marks(figures: Sequence[Figure]) -> str:
    tests = [figure.test for figure in figures if figure.test is not None]
    hits = sum(test.p is not None and test.p < SIGNIFICANT for test in tests)
    untested = f" {UNTESTED}" if tests and all(test.p is None for test in tests) else ""
    if not hits:
        return untested
    return " *" if len(figures) == 1 else f" * in {hits}"


def untested_because(tables: dict[Answer, list[Row]]) -> list[str]:
    """Return the reasons for which cells are marked as not tested."""
    cells = [cell for rows in tables.values() for row in rows for cell in row.figures.values()]
    tests = [figure.test for cell in cells for figure in cell if figure.test is not None]
    return list(dict.fromkeys(test.why for test in tests if test.p is None and test.why))


def ablation_sentences(results: Results) -> list[str]:
    """Return a sentence for each ablation whose two systems were tested, with its numbers."""
    sentences = []
    for what, first, second, answer in ABLATIONS:
        measures: tuple[Measure, ...] = ("auc_macro", "accuracy") if answer == "classes" else ("kl", "cc", "hs")
        if found := compare(results, first, second, measures):
            parts = "; ".join(_difference(one) for one in found)
            sentences.append(f"{what} ({TITLES[first]} against {TITLES[second]}): {parts}.")
    return sentences


def _difference(one: Comparison) -> str:
    names = {**DIAGNOSIS, **SALIENCY}
    known = [difference for difference in one.differences if difference is not None]
    if not known:
        return f"{names[one.measure]} is undefined"
    said = f"{names[one.measure]} {fmean(known):+.3f}"
    if len(one.differences) == 1:
        return f"{said} ({_test_text(one.tests[0])})"
    return f"{said} on average, from {min(known):+.3f} to {max(known):+.3f}"


def _test_text(test: PairedTest) -> str:
    return (
        test.why if test.p is None else f"p {'< 0.001' if test.p < 0.001 else f'= {test.p:.3f}'}, {_TESTS[test.test]}"
    )


def order_sentences(results: Results) -> list[str]:
    """Say of each comparison that the paper's claim rests on in how many seeds the first system is better."""
    sentences = []
    for first, second, measures in ORDER:
        if found := compare(results, first, second, measures):
            parts = "; ".join(_holds(one) for one in found)
            sentences.append(f"{TITLES[first]} against {TITLES[second]}: better {parts}.")
    return sentences


def _holds(one: Comparison) -> str:
    name, seeds = {**DIAGNOSIS, **SALIENCY}[one.measure], len(one.differences)
    said = f"by {name} in {one.better[0]} of {seeds} seed{'s' if seeds > 1 else ''}"
    if all(test.p is None for test in one.tests):
        return f"{said} (not tested: {one.tests[0].why})"
    (_, surely), (worse, surely_worse) = one.better, one.worse
    return f"{said} ({surely} with p < {SIGNIFICANT:g}), worse in {worse} ({surely_worse} with p < {SIGNIFICANT:g})"


def beyond_chance(tables: dict[Answer, list[Row]]) -> list[str]:
    """Say which systems answer better than chance, and better than a map that is the same for all images.

    The lower end of the interval has to lie above 0.5: of the macro AUC, and of the shuffled AUC.
    """
    sentences = []
    kinds: list[tuple[Answer, Measure, str]] = [
        ("classes", "auc_macro", "Diagnosis better than chance, by the lower end of the macro AUC above 0.5"),
        (
            "saliency",
            "sauc",
            "Gaze better than any one map for all images, by the lower end of the shuffled AUC above 0.5",
        ),
    ]
    for answer, measure, what in kinds:
        rows = [row for row in tables[answer] if row.name in TITLES and measure in row.figures]
        said = [f"{row.title} in {_above(row.figures[measure])} of {len(row.figures[measure])}" for row in rows]
        if said:
            sentences.append(f"{what}: {', '.join(said)} {'seeds' if len(rows[0].figures[measure]) > 1 else 'seed'}.")
    return sentences


def _above(figures: Sequence[Figure]) -> int:
    return sum(figure.low is not None and figure.low > 0.5 for figure in figures)


def _csv(tables: dict[Answer, list[Row]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV)
    for answer, rows in tables.items():
        for row in rows:
            if row.left_out:
                writer.writerow([answer, row.name, *[""] * 8, row.left_out, "", ""])
            for measure, figures in row.figures.items():
                for seed, figure in zip(row.seeds or ("",), figures, strict=True):
                    printed, _, deviation = row.reported(measure).partition(" ± ")
                    writer.writerow([answer, row.name, seed, measure, *_numbers(figure), printed, deviation])
    return buffer.getvalue()


def _numbers(figure: Figure) -> list[Any]:
    test = figure.test
    why = figure.why or figure.note or (test.why if test else "")
    numbers = [figure.value, figure.deviation, figure.low, figure.high, test.p if test else None]
    return [*("" if one is None else repr(one) for one in numbers), _TESTS[test.test] if test else "", why]
