"""The metric table: closed labels, and silence outside a cluster."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest

from cxrgaze_ray import telemetry
from cxrgaze_ray.telemetry import TABLE, Metric, record

_IDENTIFIERS = re.compile(r"(image|study|subject|patient|uri|path|key|request)_?(id)?")


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.name)
def test_exactly_the_labels_of_the_table(metric: Metric) -> None:
    right = dict.fromkeys(metric.labels, "x")
    record(metric, 1.0, **right)
    with pytest.raises(ValueError, match=metric.name):
        record(metric, 1.0, **right, image_id="x")
    if right:
        with pytest.raises(ValueError, match=metric.name):
            record(metric, 1.0, **dict(list(right.items())[1:]))


def test_names_are_unique_and_prometheus_can_scrape_them() -> None:
    names = [metric.name for metric in TABLE]
    assert len(set(names)) == len(names)
    for metric in TABLE:
        assert re.fullmatch(r"cxrgaze_[a-z_]+", metric.name)
        assert not metric.name.endswith("_total")
        assert bool(metric.boundaries) == (metric.kind == "histogram")
        assert list(metric.boundaries) == sorted(set(metric.boundaries))
        assert not [label for label in metric.labels if _IDENTIFIERS.fullmatch(label)]


def test_recording_does_not_start_or_import_ray() -> None:
    program = (
        "import sys; from cxrgaze_ray.telemetry import IMAGES, record;"
        "record(IMAGES, job='score', status='scored', reason=''); print('ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_a_gauge_is_set_again_and_again_with_its_last_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray exports a gauge's value once; a scrape after that would find nothing."""
    seen: list[tuple[float, str]] = []

    class Instrument:
        def set(self, value: float, tags: dict[str, str]) -> None:
            seen.append((value, tags["stage"]))

    cluster = type("Cluster", (), {"is_initialized": staticmethod(lambda: True)})
    monkeypatch.setitem(sys.modules, "ray", cluster)
    monkeypatch.setattr(telemetry, "_AGAIN_S", 0.01)
    holder = telemetry._Holder()
    holder.hold(Instrument(), 1.0, {"stage": "encoder"})
    instrument = Instrument()
    holder.hold(instrument, 2.0, {"stage": "saliency"})
    holder.hold(instrument, 3.0, {"stage": "saliency"})
    end = time.monotonic() + 60
    while seen.count((3.0, "saliency")) < 3 or seen.count((1.0, "encoder")) < 3:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert seen.count((2.0, "saliency")) == 1
