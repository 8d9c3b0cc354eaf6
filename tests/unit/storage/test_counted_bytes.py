"""Bytes that stores read and write are counted for the metrics, each once."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest

from cxrgaze_ray.errors import StoreUnavailable
from cxrgaze_ray.storage import LocalStore, ObjectInfo
from cxrgaze_ray.storage.retry import Transient, retry
from cxrgaze_ray.telemetry import Metric
from cxrgaze_ray.telemetry.table import S3_RETRIES, STORE_BYTES


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    sums: Counter[tuple[str, str]] = Counter()

    def record(metric: Metric, value: float = 1.0, **labels: str) -> None:
        sums[metric.name, labels.get("direction") or labels["outcome"]] += int(value)

    monkeypatch.setattr("cxrgaze_ray.telemetry.record", record)
    return sums


def test_every_way_to_read_and_write_a_file_counts(tmp_path: Path, counted: Counter[tuple[str, str]]) -> None:
    store, data = LocalStore(str(tmp_path)), b"x" * 1000
    store.put("a", data)
    store.put_file("b", io.BytesIO(data))
    store.put_if_absent("c", data)
    assert counted == {(STORE_BYTES.name, "write"): 3000}
    counted.clear()
    info = store.info("a")
    assert isinstance(info, ObjectInfo)
    assert store.get("a") == store.fetch_same(info) == b"".join(store.stream("a")) == data
    assert store.head("a", 10) == data[:10]
    assert counted == {(STORE_BYTES.name, "read"): 3010}


def test_attempts_after_the_first_are_counted_and_so_is_giving_up(counted: Counter[tuple[str, str]]) -> None:
    left = [Transient("gone"), Transient("gone")]

    def passes() -> str:
        if left:
            raise left.pop()
        return "here"

    assert retry(passes, budget_s=60) == "here"
    assert counted == {(S3_RETRIES.name, "again"): 2}
    counted.clear()

    def fails() -> None:
        raise Transient("gone")

    with pytest.raises(StoreUnavailable):
        retry(fails, budget_s=0)
    assert counted == {(S3_RETRIES.name, "gave_up"): 1}
