"""A run's report: one HTML file that needs no network."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from cxrgaze_ray import saliency
from cxrgaze_ray.decoding import Decoder
from cxrgaze_ray.errors import CxrgazeError, RadiographError
from cxrgaze_ray.gaze.egd import EgdTables
from cxrgaze_ray.gaze.heatmap import gaze_map
from cxrgaze_ray.manifest import fetch_listed
from cxrgaze_ray.metrics import Evaluation
from cxrgaze_ray.pages import render
from cxrgaze_ray.runs import Run
from cxrgaze_ray.schemas import (
    CLASSES,
    HEIGHT,
    ODDITY_HELP,
    REASON_HELP,
    WIDTH,
    Affine,
    Oddity,
    Reason,
    Status,
    split_oddities,
    status_of,
)

FIGURES = 4
"""Images in a group."""

_BINS = 10
_FACTS = (
    "view_position", "view_source", "photometric", "photometric_check", "transfer_syntax", "decode", "bits_stored",
    "manufacturer",
)  # fmt: skip
_PICTURE_WIDTH = 256


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: share is of the longest, in percent."""

    name: str
    count: int
    share: float
    help: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Figure:
    """One image: data URIs of the radiograph, and of it with the network's saliency and the reader's gaze."""

    name: str
    caption: str
    probabilities: list[tuple[str, float]]
    radiograph: str
    overlay: str
    gaze: str | None


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
) -> str:
    """Return a run's report as HTML.

    Parameters
    ----------
    run
        Finished or not; an unfinished one is marked as such.
    evaluation
        Of this run, where labels or gaze are known.
    truth
        Tables whose gaze is drawn beside the network's.
    figures
        Images in a group; 0 leaves pictures out.
    caution
        What the split of the images that the model learned from can't vouch for.
    """
    summary, success = run.summary(), run.success()
    context = {
        "spec": run.spec,
        "success": success,
        "pending": len(run.pending_shards()),
        "tiles": _tiles(summary),
        "reasons": _reasons(summary),
        "oddities": _oddities(summary),
        "predictions": _bars(Counter(_known(summary["prediction"])), order=CLASSES),
        "confidence": _confidence(summary),
        "facts": [(name.replace("_", " "), _bars(Counter(_stated(summary[name])))) for name in _FACTS],
        "evaluation": evaluation,
        "caution": caution,
        "classes": CLASSES,
        "groups": _groups(run, summary, evaluation, truth, figures) if figures else [],
    }
    return render("run.html", **context)


def _known(column: pa.ChunkedArray) -> list[Any]:
    return [value for value in column.to_pylist() if value is not None]


def _stated(column: pa.ChunkedArray) -> list[str]:
    return ["not stated" if value is None else str(value) for value in column.to_pylist()]


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
        Bar(str(name).replace("_", " ") if order else str(name), counts[name], 100 * counts[name] / top)
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


def _groups(
    run: Run, summary: pa.Table, evaluation: Evaluation | None, truth: EgdTables | None, figures: int
) -> list[Group]:
    chosen = _choose(summary, evaluation, figures)
    wanted = {place for _, places in chosen for place in places}
    rows = {place: row for shard in sorted({s for s, _ in wanted}) for place, row in _rows(run, shard, wanted)}
    with _painter(run, truth) as painter:
        return [Group(title, [painter.figure(rows[place]) for place in places]) for title, places in chosen if places]


Place = tuple[int, int]


def _choose(summary: pa.Table, evaluation: Evaluation | None, figures: int) -> list[tuple[str, list[Place]]]:
    """Choose images by how well they were scored: by the truth where it is known, else by the network's certainty."""
    scored = summary.filter(pc.is_valid(summary["prediction"]))
    places = list(zip(scored["shard"].to_pylist(), scored["position"].to_pylist(), strict=True))
    if not places:
        return []
    random = np.random.default_rng(0).choice(len(places), min(figures, len(places)), replace=False)
    groups = [("Drawn at random", sorted(places[index] for index in random))]
    known = {one.image_id: one.p_true for one in evaluation.scores if one.p_true is not None} if evaluation else {}
    if known:
        ids = scored["image_id"].to_pylist()
        values = np.array([known.get(image_id, np.nan) for image_id in ids], float)
        titles = ("Worst: least probability for the true class", "Best: most probability for the true class")
    else:
        values = np.max([scored[f"p_{name}"].to_numpy() for name in CLASSES], axis=0)
        titles = ("Least certain", "Most certain")
    order = [int(index) for index in np.argsort(values, kind="stable") if np.isfinite(values[index])]
    worst, best = order[:figures], _spread(order[::-1], scored["prediction"].to_pylist(), figures)
    return [(titles[1], [places[i] for i in best]), (titles[0], [places[i] for i in worst]), *groups]


def _spread(order: list[int], classes: list[str], figures: int) -> list[int]:
    """Take the first ones of every class in turn."""
    queues = [[index for index in order if classes[index] == name] for name in CLASSES]
    turns = [index for turn in zip_longest(*queues) for index in turn if index is not None]
    return turns[:figures]


def _rows(run: Run, shard: int, wanted: set[Place]) -> Iterator[tuple[Place, dict[str, Any]]]:
    for row in run.read_shard(shard).to_pylist():
        place = (row["shard"], row["position"])
        if place in wanted:
            yield place, row


class _Painter:
    """Fetches and decodes the radiographs of a run again, to draw on them."""

    def __init__(self, run: Run, truth: EgdTables | None, decoder: Decoder) -> None:
        self._shard_rows, self._plan, self._truth, self._decoder = run.spec.shard_rows, run.plan(), truth, decoder

    def figure(self, row: dict[str, Any]) -> Figure:
        """Draw a scored row; where its file is out of reach, the maps stand on black."""
        affine, density = Affine.of(row["affine"]), saliency.decode(row["saliency_png"])
        image, note = self._radiograph(row)
        gaze = self._gaze(row["image_id"], affine)
        study = self._truth.study(row["image_id"]) if self._truth else None
        label = CLASSES[study.label] if study and study.label is not None else None
        return Figure(
            name=row["image_id"][:8],
            caption=" ".join(filter(None, [f"read as {label}" if label else "", note])).replace("_", " "),
            probabilities=[(name.replace("_", " "), 100 * row[f"p_{name}"]) for name in CLASSES],
            radiograph=_jpeg(_cropped((image >> 8).astype(np.uint8), affine)),
            overlay=_jpeg(_cropped(saliency.overlay(image, density), affine)),
            gaze=None if gaze is None else _jpeg(_cropped(saliency.overlay(image, gaze), affine)),
        )

    def _radiograph(self, row: dict[str, Any]) -> tuple[NDArray[np.uint16], str]:
        planned = self._plan.slice(row["shard"] * self._shard_rows + row["position"], 1).to_pylist()[0]
        try:
            return self._decoder.decode(fetch_listed(planned)).pixels, ""
        except CxrgazeError:
            return np.zeros((HEIGHT, WIDTH), np.uint16), "(the file is out of reach now)"

    def _gaze(self, image_id: str, affine: Affine) -> NDArray[np.float32] | None:
        if self._truth is None:
            return None
        try:
            return gaze_map(self._truth.samples(image_id), affine)
        except RadiographError:
            return None


@contextmanager
def _painter(run: Run, truth: EgdTables | None) -> Iterator[_Painter]:
    with Decoder(run.spec.profile) as decoder:
        yield _Painter(run, truth, decoder)


def _cropped(picture: NDArray[np.uint8], affine: Affine) -> NDArray[np.uint8]:
    """Cut the padding off a picture of the model image's size, and make it small."""
    content = picture[affine.shown]
    size = (_PICTURE_WIDTH, max(1, round(_PICTURE_WIDTH * content.shape[0] / content.shape[1])))
    return np.asarray(cv2.resize(content, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(picture: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
