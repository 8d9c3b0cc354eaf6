"""Metrics at Ray's endpoint, as Prometheus would scrape them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.request import urlopen

import httpx
import pytest
import ray
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from cxrgaze_ray.scoring.driver import ScoreSettings, score_archive
from cxrgaze_ray.scoring.runs import Request
from cxrgaze_ray.serving import ServeFile
from cxrgaze_ray.telemetry import TABLE
from tests.dicom_files import gradient, make_dicom
from tests.integration.conftest import LARGE, same_cluster


def scrape() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return our samples, summed over processes."""
    values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urlopen(address, timeout=10) as reply:
            families: Iterable[Metric] = text_string_to_metric_families(reply.read().decode())
        for family in families:
            for sample in family.samples:
                if sample.name.startswith("ray_cxrgaze_"):
                    ours = {k: v for k, v in sample.labels.items() if k in OURS}
                    key = (sample.name, frozenset(ours.items()))
                    values[key] = values.get(key, 0) + sample.value
    return values


OURS = {label.name for metric in TABLE for label in metric.labels}


def count(name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for (found, having), value in scrape().items() if found == name and wanted <= set(having))


def wait_until(true: Callable[[], bool], what: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.5)


@pytest.mark.long
def test_counters_move_while_an_archive_is_scored(
    application: ServeFile, large_archive: str, registry: str, tmp_path: Path
) -> None:
    before = {
        "images": count("ray_cxrgaze_images_total", job="score"),
        "commits": count("ray_cxrgaze_shard_commits_total", job="score"),
        "decoded": count("ray_cxrgaze_stage_seconds_count", job="score", stage="decode"),
        "chunks": count("ray_cxrgaze_model_seconds_count"),
    }
    request = Request(archive=large_archive, model="cxrgaze@champion", engine="float32")
    settings = ScoreSettings(decoders=2)
    job = threading.Thread(
        target=score_archive, args=(request, str(tmp_path), registry, same_cluster), kwargs={"settings": settings}
    )
    job.start()
    try:
        wait_until(
            lambda: (
                not job.is_alive()
                or (
                    count("ray_cxrgaze_model_seconds_count") > before["chunks"]
                    and count("ray_cxrgaze_shards_left", job="score") > 0
                )
            ),
            "nothing was seen of the model",
        )
        assert job.is_alive(), "the job ended before anything was to be seen"
    finally:
        job.join()
    # "at least": what a test before this one counted may be reported only now
    wait_until(
        lambda: count("ray_cxrgaze_images_total", job="score") - before["images"] >= LARGE, "rows were not counted"
    )
    assert count("ray_cxrgaze_shard_commits_total", job="score") - before["commits"] >= 3
    wait_until(lambda: count("ray_cxrgaze_shards_left", job="score") == 0, "shards are left of a run that is done")
    assert count("ray_cxrgaze_images_total", job="score", status="failed", reason="truncated") > 0
    assert count("ray_cxrgaze_stage_seconds_count", job="score", stage="decode") > before["decoded"]


def test_requests_are_counted_by_route_and_code(application: ServeFile) -> None:
    before = count("ray_cxrgaze_http_requests_total", route="/v1/predict", code="415")
    with httpx.Client(base_url=application.url, timeout=30) as client:
        client.post("/v1/predict", content=make_dicom(gradient()))
        client.post("/v1/predict", content=b"no radiograph" * 9)
        client.get("/v1/secret-MRN-12345")
    wait_until(
        lambda: count("ray_cxrgaze_http_requests_total", route="/v1/predict", code="415") == before + 1,
        "the refused request was not counted",
    )
    assert count("ray_cxrgaze_http_request_seconds_count", route="/v1/predict") >= 2
    assert count("ray_cxrgaze_http_requests_total", route="other", code="404") >= 1
    assert not any("MRN" in value for _, labels in scrape() for _, value in labels)
