"""The benchmark of single requests, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cxrgaze_ray.benchmark.latency import Rate


def test_rounds_are_summed_up() -> None:
    assert str(Rate.of([30.0, 10.0, 20.0])) == "20.0 (10.0 to 30.0)"


@pytest.mark.long
def test_throughput_is_measured_by_clients() -> None:
    command = [sys.executable, "-m", "cxrgaze_ray", "bench", "serve", "--load", "1,40", "--seconds", "2", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ, timeout=500)
    found = json.loads(ended.stdout)
    assert [one["clients"] for one in found["loads"]] == [1, 40]
    for one in found["loads"]:
        assert one["images_per_second"] > 0
        assert one["latency"]["refused"] == 0


@pytest.mark.long
def test_it_says_what_was_measured() -> None:
    command = [
        sys.executable, "-m", "cxrgaze_ray", "bench", "serve", "--images", "64", "--seconds", "2", "--rounds", "1",
        "--json",
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ, timeout=500)
    found = json.loads(ended.stdout)
    assert (found["preset"], found["images"], found["clients"]) == ("tiny", 64, 1)
    assert found["batch_alone"]["median"] > 0
    assert found["batch_beside"]["median"] > 0
    for one in (found["alone"], found["beside_batch"]):
        assert one["requests"] > 0
        assert one["refused"] == 0
        assert 0 < one["p50_ms"] <= one["p95_ms"]
        if one["requests"] < 100:
            assert one["p99_ms"] is None, "too few to tell"
        else:
            assert one["p95_ms"] <= one["p99_ms"]
