"""A comparison as one HTML file that needs no network."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cxrgaze_ray.lifecycle.monitoring.report import FAMILIES, Finding, MonitorReport
from cxrgaze_ray.lifecycle.monitoring.trend_plots import trend_plots
from cxrgaze_ray.reports.names import named
from cxrgaze_ray.reports.pages import render

_REACH = 100.0
"""Thresholds that a full bar stands for: up to one it grows evenly to its middle, beyond that with the logarithm."""

_UNSAID = ("absent", "too_few")

_TITLES = {
    "acquisition": "What the files say about themselves",
    "intensity": "Brightness of the model images",
    "scores": "Probabilities",
    "predictions": "Predicted classes",
    "saliency": "Predicted gaze",
    "outcomes": "Files that were not scored, or are in doubt",
    "performance": "Against labels and gaze that have arrived",
}


@dataclass(frozen=True)
class FindingRow:
    """One line of a table: the bar reaches its middle at the threshold, the tick stands where chance ends."""

    finding: Finding
    name: str
    bar: float
    tick: float | None


def monitor_page(report: MonitorReport) -> str:
    """Return a report as HTML: suspicions first, then every finding, then the distributions that changed."""
    performance = [finding for finding in report.findings if finding.family == "performance"]
    small = {finding.subgroup for finding in performance if finding.subgroup and finding.status == "too_few"}
    return render(
        "monitor.html",
        report=report,
        sides=(("baseline", report.baseline), ("current", report.current)),
        families=[(_TITLES[name], _rows(report, name)) for name in FAMILIES if name != "performance"],
        performance=[_row(finding) for finding in performance if finding.subgroup not in small],
        uncompared=sorted(
            {finding.detail for finding in performance if finding.subgroup is None and finding.status in _UNSAID}
        ),
        small=len(small),
        moved=[finding for finding in report.alerts if finding.bins],
        trends=trend_plots(report),
        named=named,
        statuses={"ok": "", "alert": "alert", "too_few": "too few", "absent": "not compared"},
    )


def _rows(report: MonitorReport, family: str) -> list[FindingRow]:
    """Return a family's findings, the largest effect first."""
    rows = [_row(finding) for finding in report.findings if finding.family == family]
    return sorted(rows, key=lambda row: -row.bar)


def _row(finding: Finding) -> FindingRow:
    effect = finding.effect or 0.0
    size = effect if finding.family == "performance" else abs(effect)  # an improved figure has no bar
    name = f"{finding.feature} ({finding.subgroup})" if finding.subgroup else finding.feature
    return FindingRow(
        finding,
        name.replace("_", " ").replace("=", ": "),
        bar_length(size / finding.threshold),
        None if finding.noise is None else min(99.0, bar_length(finding.noise / finding.threshold)),
    )


def bar_length(thresholds: float) -> float:
    """Return how far a bar reaches, in percent: half at one threshold, all at a hundred, and never alike in between."""
    if thresholds <= 1:
        return 50 * max(0.0, thresholds)
    return min(100.0, 50 + 50 * math.log(thresholds) / math.log(_REACH))


def sentences(report: MonitorReport) -> Iterable[str]:
    """Return a report's conclusions, for people."""
    sides = (("Baseline", report.baseline), ("current", report.current))
    yield "; ".join(f"{name}: {side.images} files of {side.patients} patients" for name, side in sides) + "."
    if not report.enough:
        yield f"Too few patients to say anything: {report.settings.least_patients} are needed on both sides."
    elif not report.alerts:
        yield "No alert."
    for suspicion in report.suspicions:
        yield f"Suspected: {suspicion.drift}. {suspicion.sentence} ({', '.join(suspicion.features)})"
    yield from report.notes
