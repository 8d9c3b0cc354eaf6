"""Bounds, steady middles and shares are arithmetic; a process's CPU time is told by its role."""

from __future__ import annotations

import os
from typing import Any

import pytest

from cxrgaze_ray.archive.manifest.places import LONGEST_KEY, are_places, is_place
from cxrgaze_ray.benchmark.bounds import Mark, shared_cores, slower_stage, steady
from cxrgaze_ray.benchmark.memory import RunMemory, growth
from cxrgaze_ray.benchmark.pipeline import FIXED, SCORING, PipelineReport, PipelineSettings, paired
from cxrgaze_ray.benchmark.planning import Planning, simulated_manifest
from cxrgaze_ray.benchmark.processes import DECODING, DRIVER, ROLES, Process, cpu_since, own_processes
from cxrgaze_ray.benchmark.timing import Timing
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.schemas import HEIGHT, MANIFEST, WIDTH
from cxrgaze_ray.scoring.pipeline import Pools

CHUNK, IMAGE = 16, 2 * HEIGHT * WIDTH


def test_bounds_are_those_of_the_cores_and_of_the_slower_stage() -> None:
    assert shared_cores(2, 0.06, 0.04) == pytest.approx(20)
    assert slower_stage(2, 0.1, 0.025) == pytest.approx(20)
    assert slower_stage(2, 0.1, 0.1) == pytest.approx(10)


def test_the_middle_of_a_run_leaves_out_its_slow_ends() -> None:
    marks = [Mark(30.0, 16)]  # the actors' start
    marks += [Mark(30 + chunk, 16 * (chunk + 1), look(chunk)) for chunk in range(1, 20)]
    marks += [Mark(90.0, 336)]  # the last one drains
    found = steady(marks, 336)
    assert found.images_per_second == pytest.approx(16)
    assert found.cpu_seconds[DECODING] == pytest.approx(0.5 / 16)
    assert found.cpu_seconds[DRIVER] == 0


def look(chunk: int) -> list[Process]:
    """A decoding process takes half a second a chunk; another one has only just come."""
    return [Process(7, DECODING, 100 + 0.5 * chunk, 0), Process(1, DRIVER, 3.0, 0)]


def test_a_run_of_few_chunks_has_no_middle() -> None:
    with pytest.raises(ValueError, match="steady middle"):
        steady([Mark(1.0, 16, []), Mark(2.0, 32, [])], 32)


def test_time_of_ended_processes_is_left_out_and_of_new_ones_counted() -> None:
    before = [Process(1, DRIVER, 5.0, 0), Process(2, DECODING, 9.0, 0)]
    now = [Process(1, DRIVER, 6.0, 0), Process(3, DECODING, 2.0, 0)]
    assert cpu_since(before, now) == dict.fromkeys(ROLES, 0.0) | {DRIVER: 1.0, DECODING: 2.0}


def test_this_process_is_the_driver() -> None:
    (driver,) = [process for process in own_processes() if process.role == DRIVER]
    assert driver.pid == os.getpid()
    assert driver.cpu_seconds > 0
    assert driver.private_bytes > 1e6


def test_rates_are_compared_within_a_round() -> None:
    assert paired([8.0, 16.0, 9.0], [10.0, 20.0, 30.0]) == pytest.approx(0.8)


def test_a_report_shares_a_pipeline_s_time_out() -> None:
    timing = Timing(0.1, 0.09, 0.12)
    report = PipelineReport(
        cores=2,
        settings=PipelineSettings(),
        timings={SCORING: timing, FIXED: timing},
        cpu={SCORING: dict.fromkeys(ROLES, 0.0) | {DECODING: 0.15, DRIVER: 0.05}},
        bare={},
        waits={},
        bounds={SCORING: 12.5},
        reached={SCORING: 0.8},
        beside_direct=1.0,
    )
    assert report.rate(SCORING) == pytest.approx(10)
    assert report.shares(SCORING)[DRIVER] == pytest.approx(0.25)


def test_growth_is_by_role() -> None:
    few = RunMemory(10, 1.0, {"a": 100, "b": 0}, 0, 0, 0)
    many = RunMemory(99, 1.0, {"a": 110, "b": 5}, 0, 0, 0)
    assert growth(few, many) == {"a": pytest.approx(1.1)}


def test_a_driver_s_limit_is_a_core_s() -> None:
    one = Planning(1000, 8, 63, 1.0, 2.0, 1.0, 0.5, {}, 0, 10**7, 2, 0)
    assert one.driver_limit == pytest.approx(2000)
    assert one.gpus == pytest.approx(5)
    assert one.images_per_second == pytest.approx(500)


def test_a_simulated_manifest_is_one() -> None:
    manifest = simulated_manifest(300)
    assert manifest.table.schema == MANIFEST
    assert len(set(manifest.table["image_id"].to_pylist())) == 300


def test_objects_in_flight_are_bounded_by_what_actors_have_in_hand() -> None:
    pools = Pools(decoders=2, scorers=1)
    assert pools.object_bytes(CHUNK) == 8 * CHUNK * IMAGE
    assert pools.call_bytes(CHUNK) == 2 * CHUNK * (IMAGE + IMAGE // 8), "8-bit maps of half the size each way"


@pytest.mark.parametrize(
    "uri",
    [
        "/a", "/a\n", "/a/../b", "/a/..", "/a/..\n", "/a\0b", "..", "a", "", "http://x/y", "/" + "\u00fc" * 2047,
        "/" + "\u00fc" * 2048, "s3://bkt/k", "s3://bkt/k\n", "s3://bkt//k", "s3://b/k", "s3://bkt/",
        "s3://bkt/" + "k" * LONGEST_KEY, "s3://bkt/" + "k" * (LONGEST_KEY + 1), "s3://bkt/a/../b",
    ],
)  # fmt: skip
def test_a_row_s_place_is_judged_as_a_column_s(uri: str) -> None:
    import pyarrow as pa

    assert is_place(uri) == are_places(pa.array([uri]))[0].as_py()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"rows": (3056, 2544)}, "least, then the most"),
        ({"images": 96, "engine": "folded-float16-cuda"}, "at least 384"),
    ],
)
def test_a_race_that_could_not_be_measured_is_refused_before_it(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        PipelineSettings.build(**given)
