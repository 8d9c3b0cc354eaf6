"""Two runs of some of the same files: whose answers changed, and how far."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.comparison import Cell, Comparison, Section, differences, paired_section
from cxrgaze_ray.evaluation.evaluate import table_of_run
from cxrgaze_ray.evaluation.paired import paired_tests
from cxrgaze_ray.evaluation.table import EvaluationTable
from cxrgaze_ray.gaze.egd import EgdTables
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.scoring.runs import Run, uris_of

MOST_CHANGED = 12
"""Images that are named, those first whose probabilities moved most."""

_TRANSITIONS = 20
_COLUMNS = ["shard", "position", "image_id", "status", "reason_code", "prediction", *[f"p_{name}" for name in CLASSES]]
_FACTS = (
    "archive", "layout", "model", "weights", "temperature", "predicts", "engine", "profile", "views", "decoding",
    "identities", "files", "version",
)  # fmt: skip


def compare_runs(first: Run, second: Run, truth: EgdTables | None = None, *, with_paths: bool = False) -> Comparison:
    """Compare the rows of two runs by image id; of a repeated id the first row counts.

    Parameters
    ----------
    truth
        Labels and gaze, by which the runs are compared by paired tests on the images that both scored.
    with_paths
        Name the files whose answers changed most by their paths, which may name patients.
    """
    names = (f"A: {first.spec.run_id}", f"B: {second.spec.run_id}")
    one, two = (_rows(run) for run in (first, second))
    places_N, others_N = _matched(one, two)
    both = (one.take(pa.array(places_N)), two.take(pa.array(others_N)))
    sections = [
        differences("What was run", _facts(first, second), names),
        _files(one, two, len(places_N), names),
        _statuses(*both, names),
    ]
    facts: dict[str, Any] = {"in_both": len(places_N), "only_first": len(one) - len(places_N)}
    facts["only_second"] = len(two) - len(others_N)
    if all("classes" in run.spec.predicts for run in (first, second)):
        sections += _answers(*both, second if with_paths else None, names, facts)
    if truth is not None:
        sections.append(_against_truth(first, second, truth, names))
    return Comparison("Scoring runs", *names, _concluded(facts), tuple(sections), facts)


def _rows(run: Run) -> pa.Table:
    table = pa.concat_tables([*run.tables(_COLUMNS), run.spec.row_schema.empty_table().select(_COLUMNS)])
    _, places = np.unique(_ids(table), return_index=True)
    return table.take(pa.array(np.sort(places)))


def _ids(table: pa.Table) -> NDArray[np.str_]:
    return np.array(pc.fill_null(table["image_id"], "").to_pylist(), dtype=str)


def _matched(one: pa.Table, two: pa.Table) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    _, places, others = np.intersect1d(_ids(one), _ids(two), assume_unique=True, return_indices=True)
    return places, others


def _facts(first: Run, second: Run) -> list[tuple[str, object, object]]:
    told = [_told(run) for run in (first, second)]
    return [(name, mine, theirs) for name, mine, theirs in zip(_FACTS, *told, strict=True)]


def _told(run: Run) -> tuple[object, ...]:
    spec, options = run.spec, run.spec.request.options
    return (
        spec.request.archive, spec.layout, f"{spec.model.name} {spec.model.version}", spec.model.weights_sha256[:16],
        spec.model.temperature, " and ".join(spec.predicts), spec.engine, spec.profile, options.view, options.decode,
        spec.identities, spec.rows, f"cxrgaze {spec.code_version}",
    )  # fmt: skip


def _files(one: pa.Table, two: pa.Table, both: int, names: tuple[str, str]) -> Section:
    counts = [Counter(table["status"].to_pylist()) for table in (one, two)]
    rows = [(status, counts[0][status], counts[1][status]) for status in ("scored", "skipped", "failed")]
    note = f"{both:,} images are in both, {len(one) - both:,} in A only, {len(two) - both:,} in B only."
    return Section("Files", ("", *names), tuple(rows), note)


def _statuses(one: pa.Table, two: pa.Table, names: tuple[str, str]) -> Section:
    """Count the images that were scored in one run and not in the other, or refused for another reason."""
    ends = [
        [reason or status for status, reason in zip(t["status"].to_pylist(), t["reason_code"].to_pylist(), strict=True)]
        for t in (one, two)
    ]
    moved = Counter((mine, theirs) for mine, theirs in zip(*ends, strict=True) if mine != theirs)
    rows = [
        (mine.replace("_", " "), theirs.replace("_", " "), count)
        for (mine, theirs), count in moved.most_common(_TRANSITIONS)
    ]
    note = "" if rows else "No image of both ended otherwise."
    return Section("Files that ended otherwise", (*names, "images"), tuple(rows), note)


def _answers(
    one: pa.Table, two: pa.Table, named_by: Run | None, names: tuple[str, str], facts: dict[str, Any]
) -> list[Section]:
    scored = pc.and_(pc.is_valid(one["prediction"]), pc.is_valid(two["prediction"]))
    one, two = one.filter(scored), two.filter(scored)
    facts["scored_in_both"] = len(one)
    if not len(one):
        return [Section("Answers", ("", *names), (), "No image was scored in both.")]
    chances = [np.stack([table[f"p_{name}"].to_numpy() for name in CLASSES], axis=1) for table in (one, two)]
    moved_N = np.abs(chances[1] - chances[0]).max(axis=1)
    classes = [[CLASSES.index(name) for name in table["prediction"].to_pylist()] for table in (one, two)]
    counts = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(counts, tuple(classes), 1)
    facts |= {
        "same_class": int(np.trace(counts)),
        "mean_change": float(moved_N.mean()),
        "largest_change": float(moved_N.max()),
    }
    shown = tuple(name.replace("_", " ") for name in CLASSES)
    matrix = tuple((f"A: {name}", *row) for name, row in zip(shown, counts.tolist(), strict=True))
    quantiles = tuple(float(value) for value in np.quantile(moved_N, [0.5, 0.9, 0.99, 1.0]))
    told = tuple(f"{value:.4f}" for value in (float(moved_N.mean()), *quantiles))
    return [
        Section("Answers of A (rows) and B (columns)", ("", *(f"B: {name}" for name in shown)), matrix),
        Section(
            "How far probabilities moved", ("mean", "half of them", "90%", "99%", "furthest"), (told,),
            f"An image moved as far as its class that moved most. 90% of images moved by at most {told[2]}.",
        ),
        _most_changed(one, two, chances, moved_N, named_by, names),
    ]  # fmt: skip


def _most_changed(
    one: pa.Table,
    two: pa.Table,
    chances: list[NDArray[np.float32]],
    moved_N: NDArray[np.float32],
    named_by: Run | None,
    names: tuple[str, str],
) -> Section:
    order = np.argsort(-moved_N, kind="stable")[:MOST_CHANGED]
    order = order[moved_N[order] > 0]
    picked = two.take(pa.array(order))
    paths = uris_of(picked, named_by.plan()).to_pylist() if named_by else None
    rows: list[tuple[Cell, ...]] = []
    for number, place in enumerate(order):
        row: list[Cell] = [one["image_id"][int(place)].as_py()]
        for table, chances_NK in zip((one, two), chances, strict=True):
            answer = table["prediction"][int(place)].as_py()
            row.append(f"{answer.replace('_', ' ')} {100 * chances_NK[place].max():.1f}%")
        rows.append((*row, f"{moved_N[place]:.3f}", *([paths[number]] if paths else [])))
    columns = ("image", *names, "moved", *(["file"] if paths else []))
    return Section("Images whose answers moved most", columns, tuple(rows), "" if rows else "No probability moved.")


def _against_truth(first: Run, second: Run, truth: EgdTables, names: tuple[str, str]) -> Section:
    tables = [_sorted(table_of_run(run, truth, known_only=True)) for run in (first, second)]
    shared = sorted({*tables[0].image_ids} & {*tables[1].image_ids})
    one, two = (table.take(np.searchsorted(np.array(table.image_ids, str), shared)) for table in tables)
    return paired_section(list(paired_tests(two, one).values()), names, {})


def _sorted(table: EvaluationTable) -> EvaluationTable:
    """Return the rows by image id, each once."""
    _, places = np.unique(np.array(table.image_ids, str), return_index=True)
    return table.take(places)


def _concluded(facts: dict[str, Any]) -> str:
    if "same_class" not in facts:
        return f"{facts['in_both']:,} images are in both runs."
    scored, same = facts["scored_in_both"], facts["same_class"]
    return (
        f"Of {scored:,} images that both scored, {scored - same:,} changed their class; probabilities moved by "
        f"{facts['mean_change']:.4f} on average and by {facts['largest_change']:.4f} at most."
    )
