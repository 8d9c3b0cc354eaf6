"""S3 in bad weather: every kind of fault on every operation, through a proxy before a real server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxrgaze_ray.errors import EnvironmentFault, StoreDenied, StoreUnavailable
from cxrgaze_ray.storage import STREAM_BYTES, Store, open_store, s3
from cxrgaze_ray.storage.s3_client import _SHORT_S, forget_clients
from tests.conftest import S3Server, s3_environment
from tests.fault_proxy import Fault, FaultProxy, Kind

DATA = bytes(range(256)) * 40
TRANSIENT: tuple[Kind, ...] = (
    "error_500",
    "unavailable",
    "slow_down",
    "too_many",
    "timeout",
    "reset",
    "lost_reply",
    "truncated",
    "short_xml",
)


@pytest.fixture
def store(fault_proxy: FaultProxy, s3: str) -> Store:
    """Return a store behind the proxy, with one object."""
    store = open_store(s3)
    store.put("a/here", DATA)
    fault_proxy.clear()
    return store


def write(store: Store) -> object:
    store.put("a/new", DATA)
    return store.get("a/new")


def write_first(store: Store) -> object:
    store.put_if_absent("a/new", DATA)  # the answer may be lost, the bytes not
    return store.get("a/new")


def remove(store: Store) -> object:
    store.delete("a/here")
    return store.exists("a/here")


def size(store: Store) -> object:
    info = store.info("a/here")
    return info and info.size_bytes


OPERATIONS: dict[str, tuple[str, Callable[[Store], object], object]] = {
    "get": ("GET", lambda store: store.get("a/here"), DATA),
    "head": ("GET", lambda store: store.head("a/here", 5000), DATA[:5000]),
    "stream": ("GET", lambda store: b"".join(store.stream("a/here")), DATA),
    "list": ("GET", lambda store: [info.key for info in store.list("a/")], ["a/here"]),
    "folders": ("GET", lambda store: store.folders(), ("a",)),
    "info": ("HEAD", size, len(DATA)),
    "put": ("PUT", write, DATA),
    "put_if_absent": ("PUT", write_first, DATA),
    "delete": ("DELETE", remove, False),
}


READS = {"get", "head", "stream", "list", "folders"}
BODIES: dict[Kind, set[str]] = {"truncated": READS, "short_xml": {"list", "folders"}}
"""Faults that need a reply with something in it."""


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_passing_fault_does_not_show(store: Store, fault_proxy: FaultProxy, name: str) -> None:
    method, operate, answer = OPERATIONS[name]
    for kind in TRANSIENT:
        if name in BODIES.get(kind, OPERATIONS):
            fault_proxy.clear()
            fault = fault_proxy.add(Fault(kind, method, times=2, seconds=0.1))
            assert operate(store) == answer, kind
            assert fault.hits == 2, kind


SILENT_S = 3600.0
"""Longer than any test may take: only the client can end such a request."""


def test_silence_is_given_up_and_the_request_made_again(
    store: Store, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRGAZE_S3_READ_TIMEOUT_S", "0.15")
    forget_clients()
    for name, (method, operate, answer) in OPERATIONS.items():
        fault_proxy.clear()
        fault = fault_proxy.add(Fault("timeout", method, times=1, seconds=SILENT_S))
        assert operate(store) == answer, name
        assert fault.hits == 1, name


def test_silence_past_the_budget_is_the_environment(
    store: Store, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRGAZE_S3_READ_TIMEOUT_S", "0.2")
    monkeypatch.setenv("CXRGAZE_S3_RETRY_S", "0.3")
    forget_clients()
    fault = fault_proxy.add(Fault("timeout", seconds=SILENT_S))
    with pytest.raises(StoreUnavailable, match=r"was retried for 0\.3 s\. "):
        store.get("a/here")
    assert fault.hits >= 2


def test_refused_credentials_are_told_at_once(store: Store, fault_proxy: FaultProxy) -> None:
    for method, operate, _ in OPERATIONS.values():
        fault_proxy.clear()
        fault_proxy.add(Fault("expired", method))
        with pytest.raises(StoreDenied):
            operate(store)
        assert fault_proxy.counts == {"expired": 1}


def test_past_the_budget_it_is_the_environment(
    store: Store, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRGAZE_S3_RETRY_S", "0.3")
    forget_clients()
    for method, operate, _ in OPERATIONS.values():
        fault_proxy.clear()
        fault_proxy.add(Fault("slow_down", method))
        with pytest.raises(StoreUnavailable, match=r"(SlowDown|503) for .* was retried for 0\.3 s\. ") as caught:
            operate(store)
        assert "\n" not in str(caught.value)
        assert fault_proxy.counts["slow_down"] >= 2


def test_a_fault_that_no_retry_heals_is_told_at_once(store: Store, fault_proxy: FaultProxy) -> None:
    fault_proxy.add(Fault("not_implemented", "PUT"))
    with pytest.raises(StoreUnavailable, match="refuses conditional puts"):
        store.put_if_absent("a/new", b"-")
    with pytest.raises(StoreUnavailable, match="NotImplemented"):
        store.put("a/new", b"-")
    assert fault_proxy.counts["not_implemented"] == 2


def test_without_patience_there_is_one_attempt(store: Store, fault_proxy: FaultProxy) -> None:
    fault_proxy.add(Fault("slow_down"))
    for hasty in (store.without_retries(), store.child("a").without_retries(), store.without_retries().child("a")):
        with pytest.raises(StoreUnavailable):
            hasty.put("x", b"-")
    assert fault_proxy.counts == {"slow_down": 3}


def test_without_patience_silence_is_soon_given_up(
    store: Store, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxrgaze_ray.storage.s3_client._SHORT_S", 0.2)
    assert _SHORT_S < 10, "the heart must beat again before it looks dead"
    fault_proxy.add(Fault("timeout", seconds=300))
    with pytest.raises(StoreUnavailable):
        store.without_retries().put("x", b"-")
    assert fault_proxy.counts == {"timeout": 1}


def test_a_put_whose_reply_got_lost_is_not_ours_to_know(store: Store, fault_proxy: FaultProxy) -> None:
    fault_proxy.add(Fault("lost_reply", "PUT", times=1))
    assert not store.put_if_absent("lock", b"nonce")
    assert store.get("lock") == b"nonce"


def test_a_long_stream_goes_on_where_it_broke_off(
    store: Store, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_PART_BYTES", 2 * STREAM_BYTES)
    data = bytes(STREAM_BYTES) + b"1" * STREAM_BYTES + b"2" * (STREAM_BYTES * 3 // 2)
    store.put("long", data)
    fault_proxy.clear()
    truncated = fault_proxy.add(Fault("truncated", "GET", skip=1, times=1))
    assert b"".join(store.stream("long")) == data
    assert truncated.hits == 1
    assert [one.headers["range"] for one in fault_proxy.requests] == [
        f"bytes=0-{2 * STREAM_BYTES - 1}",
        *[f"bytes={2 * STREAM_BYTES}-{4 * STREAM_BYTES - 1}"] * 2,
    ]


def test_a_stream_does_not_mix_two_versions(
    store: Store, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_PART_BYTES", STREAM_BYTES)
    store.put("long", b"1" * (2 * STREAM_BYTES))
    for other in (b"2" * (2 * STREAM_BYTES), b"short"):
        blocks = store.stream("long")
        next(blocks)
        store.put("long", other)
        with pytest.raises(StoreUnavailable, match="changed while it was read"):
            next(blocks)
        store.put("long", b"1" * (2 * STREAM_BYTES))


def test_a_long_listing_asks_only_for_the_page_that_broke(
    store: Store, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_PAGE_KEYS", 2)
    keys = [f"many/{number}" for number in range(5)]
    for key in keys:
        store.put(key, b"-")
    fault_proxy.clear()
    fault_proxy.add(Fault("short_xml", "GET", skip=1, times=2))
    assert [info.key for info in store.list("many/")] == keys
    assert len(fault_proxy.requests) == 3 + 2


@pytest.fixture
def table(store: Store, fault_proxy: FaultProxy) -> Store:
    """Return the store with a Parquet file that no single request brings."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": np.random.default_rng(0).integers(0, 2**62, 50000)}), sink)
    store.put("t.parquet", sink.getvalue().to_pybytes())
    fault_proxy.clear()
    return store


def test_a_parquet_file_is_read_through_faults(table: Store, fault_proxy: FaultProxy) -> None:
    truncated = fault_proxy.add(Fault("truncated", "GET", times=2))
    with table.open_input("t.parquet") as file:
        assert pq.read_table(file).num_rows == 50000
    assert truncated.hits == 2


def test_parquets_reader_passes_on_what_happened(
    table: Store, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXRGAZE_S3_RETRY_S", "0.1")
    forget_clients()
    fault_proxy.add(Fault("slow_down", "GET", skip=1))
    with table.open_input("t.parquet") as file, pytest.raises(StoreUnavailable, match="SlowDown"):
        pq.read_table(file)


def test_a_parquet_file_that_is_replaced_is_not_mixed(table: Store) -> None:
    with table.open_input("t.parquet") as file:
        table.put("t.parquet", b"-")
        with pytest.raises(StoreUnavailable, match="changed while it was read"):
            pq.read_table(file)


def test_everything_at_random(fault_proxy: FaultProxy, s3: str) -> None:
    store = open_store(s3)
    for kind in TRANSIENT:
        fault_proxy.add(Fault(kind, probability=0.03, seconds=0.05))

    def work(number: int) -> bytes:
        store.put(f"{number:03d}", b"%d" % number)
        return store.get(f"{number:03d}")

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(25))) == [b"%d" % number for number in range(25)]
    assert [info.key for info in store.list()] == [f"{number:03d}" for number in range(25)]
    assert len(fault_proxy.counts) > 3


def test_a_server_that_comes_back_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with S3Server(tmp_path) as server, ThreadPoolExecutor(1) as threads:
        for name, value in s3_environment(server).items():
            monkeypatch.setenv(name, value)
        forget_clients()
        store = open_store("s3://test/run")
        store.put("a", DATA)
        server.stop()
        with pytest.raises(EnvironmentFault):
            store.without_retries().get("a")
        reading = threads.submit(store.get, "a")
        server.start()
        assert reading.result() == DATA
