"""The monitor's page shows each run by itself, and bars that never look alike for effects that are not."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from cxrgaze_ray.lifecycle.monitoring import MonitorReport, MonitorSettings, monitor, monitor_page
from cxrgaze_ray.lifecycle.monitoring.page import bar_length
from cxrgaze_ray.lifecycle.monitoring.trend_plots import trend_plots
from cxrgaze_ray.scoring.runs import Run
from tests.populations import make_run, population

QUICK = MonitorSettings(saliency_sample=10)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    return [
        make_run(folder, population(12, seed), name=f"run-{seed}", at=f"2026-0{seed}-03T00:00:00.000000+00:00")
        for seed in (1, 2, 3)
    ]


@pytest.fixture(scope="module")
def report(runs: list[Run]) -> MonitorReport:
    return monitor(runs[:1], runs[1:], QUICK)


def test_each_run_is_a_point_with_its_own_shares(report: MonitorReport, runs: list[Run]) -> None:
    points = [*report.baseline.trend, *report.current.trend]
    assert [point.run_id for point in points] == ["run-1", "run-2", "run-3"]
    for point, run in zip(points, runs, strict=True):
        rows = run.summary().to_pylist()
        scored = [row for row in rows if row["status"] == "scored"]
        assert point.images == len(rows)
        assert point.skipped == pytest.approx(sum(row["status"] == "skipped" for row in rows) / len(rows))
        share = sum(row["prediction"] == "pneumonia" for row in scored) / len(scored)
        assert point.predicted["pneumonia"] == pytest.approx(share)
        assert sum(point.predicted.values()) == pytest.approx(1)
        assert point.brightness == pytest.approx(sum(row["intensity_mean"] for row in scored) / len(scored), rel=1e-5)
    assert MonitorReport.model_validate_json(report.model_dump_json()) == report


def test_the_page_draws_the_runs_one_after_the_other(report: MonitorReport) -> None:
    page = monitor_page(report)
    for title in ("Run by run", "Files that were not scored", "Answers", "How sure the model was"):
        assert f">{title}</h" in page
    assert "1 run of the baseline (shaded), then 2 current." in page
    assert not re.findall(r"""(?:src|href)=(?!"#)|url\((?!#)|https?://""", page)


def test_two_runs_and_reports_of_before_have_no_trend(report: MonitorReport, runs: list[Run]) -> None:
    assert trend_plots(monitor(runs[:1], runs[1:2], QUICK)) == []
    sides = {name: getattr(report, name).model_copy(update={"trend": ()}) for name in ("baseline", "current")}
    assert "Run by run" not in monitor_page(report.model_copy(update=sides))


def test_a_run_of_a_model_without_classes_has_no_share_of_any(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, population(6, seed), name=f"r{seed}", predicts=("saliency",)) for seed in (1, 2, 3)]
    found = monitor(runs[:1], runs[1:], QUICK)
    assert all(point.predicted == {} and point.confidence is None for point in found.current.trend)
    assert [plot.title for plot in trend_plots(found)] == ["Files that were not scored", "Brightness of the images"]


def test_bars_grow_with_every_effect() -> None:
    lengths = [bar_length(thresholds) for thresholds in (0, 0.5, 1, 2.4, 24, 90)]
    assert lengths[:3] == [0, 25, 50]
    assert all(later - earlier > 5 for earlier, later in itertools.pairwise(lengths))
    assert bar_length(1e9) == 100
    assert bar_length(-3) == 0
