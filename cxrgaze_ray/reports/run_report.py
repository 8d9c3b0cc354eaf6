"""A run's report: one HTML file that needs no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray.errors import EnvironmentFault, RadiographError
from cxrgaze_ray.evaluation.metrics import Evaluation
from cxrgaze_ray.gaze.egd import EgdTables
from cxrgaze_ray.reports.figures import Figure, Painter
from cxrgaze_ray.reports.names import named
from cxrgaze_ray.reports.pages import render
from cxrgaze_ray.reports.plots import FOREST, GAZE_COLOURS, evaluation_plots
from cxrgaze_ray.schemas import (
    CAM_MEANING,
    CLASSES,
    NOT_STATED,
    ODDITY_HELP,
    REASON_HELP,
    Oddity,
    Reason,
    Status,
    split_oddities,
    status_of,
)
from cxrgaze_ray.scoring.runs import Run, uris_of

FIGURES = 4
"""Images in a group."""

LISTED = 200
"""Failed files that are listed; `cxrgaze runs show RUN --failed` lists all."""

_BINS = 10
_FACTS = (
    "view_position", "view_source", "photometric", "photometric_check", "transfer_syntax", "decode", "bits_stored",
    "manufacturer",
)  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: share is of the longest, in percent."""

    name: str
    count: int
    share: float
    help: str = ""
    kind: str = ""


@dataclass(frozen=True)
class FailedFile:
    """A file that failed, and its path if the report is to say it."""

    image_id: str
    reason: str
    path: str | None


@dataclass(frozen=True)
class Group:
    """Images that have something in common."""

    title: str
    figures: list[Figure]


def run_report(
    run: Run,
    evaluation: Evaluation | None = None,
    truth: EgdTables | None = None,
    *,
    figures: int = FIGURES,
    caution: str = "",
    with_paths: bool = False,
    on_lost: Callable[[RadiographError | EnvironmentFault], None] = lambda _: None,
) -> str:
    """Return a run's report as HTML.

    Parameters
    ----------
    run
        Finished or not; an unfinished one is marked as such.
    evaluation
        Evaluation of this run, where labels or gaze are known.
    truth
        Tables whose gaze is drawn beside the network's.
    figures
        Images in a group; 0 leaves pictures out.
    caution
        What the split of the images that the model learned from can't vouch for.
    with_paths
        Say the paths of files that failed or are shown; they may name patients.
    on_lost
        Called with the reason for every radiograph that can't be shown any more.
    """
    summary, success, plan = run.summary(), run.success(), run.plan()
    failed = summary.filter(pc.equal(summary["status"], str(Status.FAILED)))
    listed = _failed(_some_of_each(failed), plan, with_paths)
    context = {
        "spec": run.spec,
        "success": success,
        "pending": len(run.pending_shards()),
        "tiles": _tiles(summary),
        "reasons": _reasons(summary),
        "oddities": _oddities(summary),
        "predictions": [],
        "confidence": [],
        "facts": [(name.replace("_", " "), _bars(Counter(_stated(summary[name])))) for name in _FACTS],
        "evaluation": evaluation,
        "caution": caution,
        "classes": CLASSES,
        "cam_meaning": CAM_MEANING,
        "failed": listed,
        "listed": {file.reason for file in listed},
        "failed_beyond": failed.num_rows - len(listed),
        "with_paths": with_paths,
        "groups": [],
        "lost": 0,
        "shows_gaze": "saliency" in run.spec.predicts,
        "gaze_colours": GAZE_COLOURS,
        **_compared(evaluation),
    }
    if "classes" in run.spec.predicts:
        context["predictions"] = _bars(Counter(_known(summary["prediction"])), order=CLASSES)
        context["confidence"] = _confidence(summary)
    if figures:
        with Painter(run, plan, truth, with_paths=with_paths) as painter:
            context["groups"] = _groups(run, summary, evaluation, painter, figures)
        context["lost"] = len(painter.lost)
        for error in painter.lost:
            on_lost(error)
    return render("run.html", **context)


def _known(column: pa.ChunkedArray) -> list[Any]:
    return [value for value in column.to_pylist() if value is not None]


def _stated(column: pa.ChunkedArray) -> list[str]:
    return [NOT_STATED if value is None else str(value) for value in column.to_pylist()]


def _tiles(summary: pa.Table) -> list[tuple[str, int]]:
    counts = Counter(summary["status"].to_pylist())
    return [("files", summary.num_rows), *[(str(status), counts[str(status)]) for status in Status]]


def _reasons(summary: pa.Table) -> list[Bar]:
    counts = Counter(_known(summary["reason_code"]))
    return [
        Bar(bar.name.replace("_", " "), bar.count, bar.share, REASON_HELP[Reason(bar.name)], str(status_of(bar.name)))
        for bar in _bars(counts)
    ]


def _oddities(summary: pa.Table) -> list[Bar]:
    counts = Counter(word for words in _known(summary["oddities"]) for word in split_oddities(words))
    return [
        Bar(bar.name.replace("_", " "), bar.count, bar.share, ODDITY_HELP[Oddity(bar.name)]) for bar in _bars(counts)
    ]


def _bars(counts: Counter[Any], order: Iterable[Any] | None = None) -> list[Bar]:
    top = max(counts.values(), default=1)
    names = list(order) if order is not None else [name for name, _ in counts.most_common()]
    return [
        Bar(str(name).replace("_", " ") if order else named(str(name)), counts[name], 100 * counts[name] / top)
        for name in names
    ]


def _confidence(summary: pa.Table) -> list[Bar]:
    """Count scored images by the probability of their arg-max class."""
    scored = summary.filter(pc.is_valid(summary["prediction"]))
    if not scored.num_rows:
        return []
    best = np.max([scored[f"p_{name}"].to_numpy() for name in CLASSES], axis=0)
    low = 0.3
    counts, edges = np.histogram(best, bins=_BINS, range=(low, 1.0))
    top = max(int(counts.max()), 1)
    return [
        Bar(f"{start:.2f} to {end:.2f}", int(count), 100 * int(count) / top)
        for start, end, count in zip(edges, edges[1:], counts, strict=False)
    ]


def _compared(evaluation: Evaluation | None) -> dict[str, Any]:
    """Return what is drawn where the truth is known."""
    metrics = evaluation.summary() if evaluation else {}
    groups = metrics.get("subgroups", ())
    return {"plots": evaluation_plots(metrics), "subgroups": groups, "subgroup_titles": FOREST}


def _some_of_each(failed: pa.Table) -> pa.Table:
    """Return at most `LISTED` rows, as many of each reason as of the others, reason after reason."""
    reasons = sorted(set(failed["reason_code"].to_pylist()))
    parts = [failed.filter(pc.equal(failed["reason_code"], reason)) for reason in reasons]
    return pa.concat_tables([part.slice(0, max(1, LISTED // len(parts))) for part in parts]) if parts else failed


def _failed(rows: pa.Table, plan: pa.Table, with_paths: bool) -> list[FailedFile]:
    paths = uris_of(rows, plan).to_pylist() if with_paths else [None] * rows.num_rows
    told = zip(rows["image_id"].to_pylist(), rows["reason_code"].to_pylist(), paths, strict=True)
    return [FailedFile(image_id or "", reason.replace("_", " "), path) for image_id, reason, path in told]


def _groups(run: Run, summary: pa.Table, evaluation: Evaluation | None, painter: Painter, figures: int) -> list[Group]:
    chosen = _choose(summary, run.spec.predicts, evaluation, figures)
    wanted = {place for _, places in chosen for place in places}
    rows = (found for shard in sorted({shard for shard, _ in wanted}) for found in _rows(run, shard, wanted))
    drawn = {place: painter.figure(row) for place, row in rows}
    return [Group(title, [drawn[place] for place in places]) for title, places in chosen if places]


Place = tuple[int, int]
_MAP_TITLES = ("Worst: predicted gaze least like the true one", "Best: predicted gaze most like the true one")

Order = tuple[NDArray[np.floating[Any]], tuple[str, str]]
"""What to order scored rows by, NaN for those to leave out, and the titles of the lowest and the highest."""


def _choose(
    summary: pa.Table, predicts: Collection[str], evaluation: Evaluation | None, figures: int
) -> list[tuple[str, list[Place]]]:
    """Choose images by how well they were scored: by the truth where it is known, else by the network's certainty."""
    scored = summary.filter(pc.equal(summary["status"], str(Status.SCORED)))
    places = list(zip(scored["shard"].to_pylist(), scored["position"].to_pylist(), strict=True))
    if not places:
        return []
    random = np.random.default_rng(0).choice(len(places), min(figures, len(places)), replace=False)
    groups = [("Drawn at random", sorted(places[index] for index in random))]
    values, titles = (_by_class if "classes" in predicts else _by_map)(scored, evaluation)
    order = [int(index) for index in np.argsort(values, kind="stable") if np.isfinite(values[index])]
    worst, best = order[:figures], _spread(order[::-1], scored["prediction"].to_pylist(), figures)
    return [(titles[1], [places[i] for i in best]), (titles[0], [places[i] for i in worst]), *groups]


def _by_class(scored: pa.Table, evaluation: Evaluation | None) -> Order:
    known = {one.image_id: one.p_true for one in evaluation.scores if one.p_true is not None} if evaluation else {}
    if known:
        titles = ("Worst: least probability for the true class", "Best: most probability for the true class")
        return _values(scored, known), titles
    return np.max([scored[f"p_{name}"].to_numpy() for name in CLASSES], axis=0), ("Least certain", "Most certain")


def _by_map(scored: pa.Table, evaluation: Evaluation | None) -> Order:
    known = {one.image_id: one.cc for one in evaluation.scores if one.cc is not None} if evaluation else {}
    if known:
        return _values(scored, known), _MAP_TITLES
    return scored["saliency_peak"].to_numpy(), ("Least concentrated gaze", "Most concentrated gaze")


def _values(scored: pa.Table, known: dict[str, float]) -> NDArray[np.float64]:
    """Return what is known of each row; NaN of those of which nothing is."""
    return np.array([known.get(image_id, np.nan) for image_id in scored["image_id"].to_pylist()], np.float64)


def _spread(order: list[int], classes: list[str | None], figures: int) -> list[int]:
    """Take the first ones of every class in turn; rows without one are a class of their own."""
    queues = [[index for index in order if classes[index] == name] for name in (*CLASSES, None)]
    turns = [index for turn in zip_longest(*queues) for index in turn if index is not None]
    return turns[:figures]


def _rows(run: Run, shard: int, wanted: set[Place]) -> Iterator[tuple[Place, dict[str, Any]]]:
    for row in run.read_shard(shard).to_pylist():
        place = (row["shard"], row["position"])
        if place in wanted:
            yield place, row
