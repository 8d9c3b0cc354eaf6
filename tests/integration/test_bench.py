"""The benchmarks at toy size, as commands; and memory of a scoring run does not grow with its length."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from cxrgaze_ray.benchmark.memory import bench_memory, growth
from cxrgaze_ray.scoring.pipeline import DECODER_CHUNKS, SCORER_CHUNKS

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

MEBIBYTE = 2**20


def bench(*arguments: str) -> Any:
    """Run a benchmark in a process of its own, which is what it counts."""
    command = [sys.executable, "-m", "cxrgaze_ray", "bench", *arguments, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_the_pipeline_is_measured_beside_its_parts() -> None:
    found = bench("pipeline", "--images", "256", "--rounds", "1", "--small", "256", "--rows", "300,400")
    assert set(found["reached"]) < set(found["timings"]) > {"bare decode", "bare model", "fixed cost"}
    assert all(0 < share < 1.5 for share in found["reached"].values())
    assert all(one["seconds"] > 0 for one in found["timings"].values())
    assert found["cpu"]["our scoring"]["model replica"] > found["cpu"]["direct actors"]["model replica"] == 0
    assert found["cpu"]["direct actors"]["score actor"] > found["cpu"]["our scoring"]["score actor"] > 0


def test_planning_is_simulated() -> None:
    found = bench("planning", "--rows", "5200", "--map-bytes", "2000")
    assert (found["rows"], found["shards"], found["chunks"]) == (5200, 41, 325)
    assert found["committed_bytes"] > 5200 * 2000
    in_flight = 2 * DECODER_CHUNKS + SCORER_CHUNKS  # each can hold back another shard, and one is being filled
    assert 1 <= found["open_shards"] <= in_flight + 1
    assert found["spilled"] == 0
    assert found["driver_limit"] > 0


def test_ten_times_as_many_images_take_no_more_memory() -> None:
    few, many = bench_memory((256, 2560))
    print(f"peaks at {few.images} and {many.images} images: {few} {many}, growth {growth(few, many)}")
    for role, peak in few.peaks.items():
        assert many.peaks[role] <= 1.15 * peak + 32 * MEBIBYTE, role
    assert many.store_peak <= many.store_bound
    assert few.spilled == many.spilled == 0
