"""Values on their way to Ray: silence outside a cluster, gauges that stay, queues that are counted."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from cxrgaze_ray.telemetry import Metric, Waiting, begin, recording, timed
from cxrgaze_ray.telemetry.table import QUEUE_LENGTH, SHARD_COMMITS, STAGE_SECONDS


def test_recording_does_not_start_or_import_ray() -> None:
    program = (
        "import sys; from cxrgaze_ray.telemetry import record; from cxrgaze_ray.telemetry.table import IMAGES;"
        "record(IMAGES, job='score', status='scored', reason='none'); print('ray' in sys.modules)"
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
    monkeypatch.setattr(recording, "_AGAIN_S", 0.01)
    holder = recording._Holder()
    holder.hold(Instrument(), 1.0, {"stage": "encoder"})
    instrument = Instrument()
    holder.hold(instrument, 2.0, {"stage": "saliency"})
    holder.hold(instrument, 3.0, {"stage": "saliency"})
    end = time.monotonic() + 60
    while seen.count((3.0, "saliency")) < 3 or seen.count((1.0, "encoder")) < 3:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert seen.count((2.0, "saliency")) == 1


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Metric, float, dict[str, Any]]]:
    found: list[tuple[Metric, float, dict[str, Any]]] = []
    monkeypatch.setattr(recording, "record", lambda metric, value=1.0, **labels: found.append((metric, value, labels)))
    return found


def test_who_waits_is_counted_however_it_ends(recorded: list[tuple[Metric, float, dict[str, Any]]]) -> None:
    queue = Waiting("model")
    with queue, pytest.raises(ZeroDivisionError), queue:
        raise ZeroDivisionError
    assert [(metric, value) for metric, value, _ in recorded] == [(QUEUE_LENGTH, length) for length in (1, 2, 1, 0)]
    assert all(labels == {"queue": "model"} for _, _, labels in recorded)


def test_what_fails_is_timed_too(recorded: list[tuple[Metric, float, dict[str, Any]]]) -> None:
    with pytest.raises(ZeroDivisionError), timed(STAGE_SECONDS, job="score", stage="fetch"):
        raise ZeroDivisionError
    ((metric, seconds, labels),) = recorded
    assert metric is STAGE_SECONDS
    assert seconds >= 0
    assert labels == {"job": "score", "stage": "fetch"}


def test_a_counter_begins_at_0_with_labels_of_the_table_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, dict[str, str]]] = []

    class Instrument:
        def _record(self, value: float, tags: dict[str, str]) -> None:
            seen.append((value, tags))

    monkeypatch.setitem(sys.modules, "ray", type("Cluster", (), {"is_initialized": staticmethod(lambda: True)}))
    monkeypatch.setattr(recording, "_instrument", lambda _: Instrument())
    begin(SHARD_COMMITS, job="score")
    with pytest.raises(ValueError, match="none of the table's"):
        begin(SHARD_COMMITS, job="MRN-774411")
    assert seen == [(0.0, {"job": "score"})]
