"""S3 as a store, against a real server."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxrgaze_ray.errors import StoreDenied, StoreNotFound, StoreUnavailable
from cxrgaze_ray.storage import S3Store, Store, open_parent, open_store
from cxrgaze_ray.storage.s3_client import client
from tests.conftest import clear_clients
from tests.store_contract import CHECKS, Check


@pytest.fixture
def store(s3: str) -> Store:
    return open_store(s3)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Check, store: Store) -> None:
    check(store)


@pytest.mark.parametrize("uri", ["s3://no-such-bucket", "s3://no-such-bucket/prefix"])
def test_missing_bucket_is_not_found(s3: str, uri: str) -> None:
    store = open_store(uri)
    with pytest.raises(StoreNotFound):
        list(store.list())
    with pytest.raises(StoreNotFound):
        store.get("a")
    with pytest.raises(StoreNotFound):
        store.folders()


def test_wrong_secret_is_denied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", b"-")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    clear_clients()
    _is_denied(store)


def test_unknown_access_key_is_denied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", b"-")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    clear_clients()
    _is_denied(store)


def test_no_credentials_is_denied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", b"-")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    clear_clients()
    _is_denied(store)


def _is_denied(store: Store) -> None:
    with pytest.raises(StoreDenied):
        store.get("a")
    with pytest.raises(StoreDenied):
        store.info("a")
    with pytest.raises(StoreDenied):
        list(store.list())
    with pytest.raises(StoreDenied):
        store.put("b", b"-")
    with pytest.raises(StoreDenied):
        store.put_if_absent("b", b"-")


def test_closed_port_is_unavailable(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else can answer there
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("CXRGAZE_S3_RETRY_S", "0")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        clear_clients()
        with pytest.raises(StoreUnavailable):
            store.get("a")


def test_arrow_reads_what_was_put(store: Store) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1, 2]}), sink)
    store.put("t t/part.parquet", sink.getvalue().to_pybytes())
    filesystem, root = store.filesystem()
    assert pq.read_table(f"{root}/t t/part.parquet", filesystem=filesystem)["x"].to_pylist() == [1, 2]


def test_listing_goes_on_after_a_page(store: Store) -> None:
    keys = [f"many/{number:04d}" for number in range(1005)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: store.put(key, b"-"), keys))
    assert [info.key for info in store.list("many/")] == keys


def test_folder_markers_are_no_objects(store: Store) -> None:
    assert isinstance(store, S3Store)
    client().put_object(Bucket=store.bucket, Key=f"{store.prefix}/folder/", Body=b"")
    store.put("folder/a", b"-")
    assert [info.key for info in store.list()] == ["folder/a"]


def test_prefix_ends_at_a_slash(store: Store) -> None:
    store.child("run").put("a", b"-")
    store.child("run-2").put("b", b"-")
    assert [info.key for info in store.child("run").list()] == ["a"]


def test_parent_of_an_object(store: Store) -> None:
    store.put("a/b", b"-")
    parent, key = open_parent(store.locate("a/b"))
    assert parent.get(key) == b"-"


def test_head_of_a_bucket_root(s3: str) -> None:
    parent, key = open_parent(s3)
    assert parent.uri == "s3://test"
    parent.put(key, b"root")
    assert parent.head(key, 2) == b"ro"
    assert key in [info.key for info in parent.list(key)]
