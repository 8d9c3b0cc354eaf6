"""A comparison's runs over time, drawn: what failed, what was predicted, how sure, how bright."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cxrgaze_ray.lifecycle.monitoring.report import MonitorReport, RunPoint
from cxrgaze_ray.reports.plots import LINES, Plot
from cxrgaze_ray.reports.svg import COLOURS, inline_svg
from cxrgaze_ray.schemas import CLASSES

_LEAST = 3
"""Runs below which a trend is no more than the comparison itself."""

_MARKED = 24
"""Runs up to which each has a dot."""

Line = tuple[str, str, str, Callable[[RunPoint], float | None]]
"""Label, colour, stroke, and what it shows of a run."""


def _answered(point: RunPoint, name: str) -> float | None:
    return 100 * point.predicted[name] if name in point.predicted else None


_NOT_SCORED: tuple[Line, ...] = (
    ("failed", "bad", "-", lambda point: 100 * point.failed),
    ("skipped", "open", "--", lambda point: 100 * point.skipped),
)
_ANSWERS: tuple[Line, ...] = tuple(
    (name.replace("_", " "), colour, stroke, partial(_answered, name=name))
    for (colour, stroke), name in zip(LINES, CLASSES, strict=True)
)
_SURE: tuple[Line, ...] = (("mean probability of the answer", "bar", "-", lambda point: point.confidence),)
_BRIGHT: tuple[Line, ...] = (("mean brightness", "bar", "-", lambda point: point.brightness),)

_PANELS: tuple[tuple[str, str, tuple[Line, ...]], ...] = (
    ("Files that were not scored", "% of files", _NOT_SCORED),
    ("Answers", "% of answers", _ANSWERS),
    ("How sure the model was", "probability", _SURE),
    ("Brightness of the images", "level", _BRIGHT),
)


def trend_plots(report: MonitorReport) -> list[Plot]:
    """Draw both sides' runs one after the other; nothing if they are too few, or of an earlier version's report."""
    before, after = report.baseline.trend, report.current.trend
    points = [*before, *after]
    if len(points) < _LEAST:
        return []
    said = f"{len(before)} run{'' if len(before) == 1 else 's'} of the baseline (shaded), then {len(after)} current."
    return [
        Plot(
            title,
            said,
            inline_svg(
                partial(_draw, points=points, shaded=len(before), lines=lines, unit=unit), f"trend-{place}",
                f"{title}, run by run", height=2.2,
            ),
        )
        for place, (title, unit, lines) in enumerate(_PANELS)
        if any(value(point) is not None for _, _, _, value in lines for point in points)
    ]  # fmt: skip


def _draw(axes: Any, points: Sequence[RunPoint], shaded: int, lines: Sequence[Line], unit: str) -> None:
    places = range(len(points))
    axes.axvspan(-0.5, shaded - 0.5, color=COLOURS["line"], alpha=0.6, linewidth=0)
    for label, colour, stroke, value in lines:
        values = [float("nan") if (one := value(point)) is None else one for point in points]
        marker = "o" if len(points) <= _MARKED else None
        axes.plot(places, values, stroke, marker=marker, markersize=3, color=COLOURS[colour], label=label)
    step = max(1, -(-len(points) // 4))
    axes.set_xticks(places[::step], [point.at[:10] for point in points[::step]])
    axes.set(ylabel=unit, xlim=(-0.5, len(points) - 0.5))
    axes.margins(y=0.25)
    axes.legend(loc="best")
