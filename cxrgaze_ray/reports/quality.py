"""How good a model is, for a page: what its bundle carries of an evaluation, drawn and told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cxrgaze_ray.models.bundle import BundleInfo
from cxrgaze_ray.reports.figures import Figure
from cxrgaze_ray.reports.metric_rows import MetricRow, metric_rows
from cxrgaze_ray.reports.plots import FOREST, GAZE_COLOURS, evaluation_plots, learning_plots

Tile = tuple[str, str, str]
"""Kind, value, and what it is."""

_FIRST = ("AUC macro", "accuracy", "calibration error", "saliency CC")


def quality(
    info: BundleInfo,
    metrics: dict[str, Any],
    measured_on: str,
    examples: Sequence[Figure] = (),
    examples_from: str = "",
) -> dict[str, Any]:
    """Return what template quality.html shows.

    Parameters
    ----------
    metrics
        `Evaluation.summary`, of this version or an earlier one.
    measured_on
        A sentence on the images.
    examples, examples_from
        Pictures, and a sentence on how they were chosen.
    """
    diagnosis = metrics.get("diagnosis") or {}
    return {
        "learning": learning_plots(info.curves),
        "metrics": metric_rows(metrics),
        "plots": evaluation_plots(metrics),
        "confusion": diagnosis.get("confusion"),
        "classes": info.classes,
        "subgroups": metrics.get("subgroups") or (),
        "subgroup_titles": FOREST,
        "measured_on": measured_on,
        "note": metrics.get("note") or "",
        "examples": examples,
        "examples_from": examples_from,
        "gaze_colours": GAZE_COLOURS,
    }


def first_figures(shown: Sequence[MetricRow]) -> list[Tile]:
    """Choose the figures to see first."""
    return [("", one.value, one.name) for one in shown if one.name in _FIRST]
