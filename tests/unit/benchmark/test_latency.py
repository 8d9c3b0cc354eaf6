"""Figures of few requests, and of a job that reports once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cxrgaze_ray.benchmark import latency
from cxrgaze_ray.benchmark.latency import RequestLog


def test_of_few_requests_there_is_no_99th_percentile() -> None:
    few, many = RequestLog([0.1] * 99).latency(), RequestLog([0.1] * 100).latency()
    assert few.p99_ms is None
    assert few.cells() == ["100", "100", "-"]
    assert many.cells() == ["100", "100", "100"]


@pytest.mark.parametrize("reports", [1, 3])
def test_a_job_has_a_rate_however_often_it_reports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reports: int
) -> None:
    begun: list[int] = []

    def score(*_: Any, on_progress: Any) -> Any:
        for number in range(reports):
            on_progress(SimpleNamespace(received=10 * (number + 1)))
        return SimpleNamespace(run=SimpleNamespace(spec=SimpleNamespace(engine="e")))

    monkeypatch.setattr(latency, "score_archive", score)
    job = latency._Job(tmp_path, cast("Any", None), "job").run(lambda: begun.append(1))
    assert job.rate > 0
    assert begun == [1]
