"""What is told of the device that computes."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from cxrgaze_ray.models.device import DeviceMeter, memory_of
from cxrgaze_ray.telemetry import Metric
from cxrgaze_ray.telemetry.table import DEVICE_BUSY, DEVICE_MEMORY


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux says")
def test_this_process_holds_less_than_all_use() -> None:
    memory = memory_of("cpu")
    assert 10 * 2**20 < memory["process"] < memory["used"] < memory["total"]


def test_every_computation_counts_and_memory_is_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[Metric, list[float]] = defaultdict(list)

    def record(metric: Metric, value: float = 1.0, **labels: str) -> None:
        assert (labels["job"], labels["device"]) == ("serve", "cpu")
        told[metric].append(value)

    monkeypatch.setattr("cxrgaze_ray.telemetry.record", record)
    looks = 0

    def look(device: str) -> dict[str, int]:
        nonlocal looks
        looks += 1
        return {"process": 1, "used": 2, "total": 3}

    monkeypatch.setattr("cxrgaze_ray.models.device.memory_of", look)
    meter = DeviceMeter("serve", "cpu")
    for seconds in (0.5, 0.25, 0.125):
        meter.computed(seconds)
    assert told[DEVICE_BUSY] == [0.5, 0.25, 0.125]
    assert told[DEVICE_MEMORY] == [1, 2, 3]
    assert looks == 1
