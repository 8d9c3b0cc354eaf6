"""The metric table: closed labels, and silence outside a cluster."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from cxrgaze_ray.telemetry import TABLE, Metric, record

_IDENTIFIERS = re.compile(r"(image|study|subject|patient|uri|path|key|request)_?(id)?")


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.name)
def test_exactly_the_labels_of_the_table(metric: Metric) -> None:
    right = dict.fromkeys(metric.labels, "x")
    record(metric, 1.0, **right)
    with pytest.raises(ValueError, match=metric.name):
        record(metric, 1.0, **right, image_id="x")
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
