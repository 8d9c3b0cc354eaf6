"""S3 as hospitals have it: its own authority, its own addressing, buckets of which the reader pays the requests."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxrgaze_ray.errors import ConfigError, StoreUnavailable
from cxrgaze_ray.storage import Store, open_store, probe
from cxrgaze_ray.storage.s3_client import forget_clients
from tests.authority import Authority, make_authority
from tests.conftest import S3Server
from tests.fault_proxy import Fault, FaultProxy


def use(store: Store) -> None:
    """Do all that a store can."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1, 2]}), sink)
    store.put("a/t.parquet", sink.getvalue().to_pybytes())
    assert store.put_if_absent("a/lock", b"-")
    assert store.get("a/lock") == b"-"
    assert store.head("a/lock", 4) == b"-"
    assert b"".join(store.stream("a/lock")) == b"-"
    assert store.exists("a/lock")
    assert [info.key for info in store.list()] == ["a/lock", "a/t.parquet"]
    assert store.folders() == ("a",)
    store.delete("a/lock")


def read_by_arrow(store: Store) -> object:
    filesystem, root = store.filesystem()
    return pq.read_table(f"{root}/a/t.parquet", filesystem=filesystem)["x"].to_pylist()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def tls(s3: str, s3_server: S3Server, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return a prefix behind TLS, by a certificate that nobody trusts yet."""
    with FaultProxy(s3_server.endpoint, tls=authority.server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        forget_clients()
        yield s3


def test_an_unknown_authority_is_told_with_the_option(tls: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"is not trusted .* CXRGAZE_S3_CA_BUNDLE or AWS_CA_BUNDLE") as caught:
        open_store(tls).get("a")
    assert "\n" not in str(caught.value)


def refusal(endpoint: str, bundle: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> str:
    """Return what is said where an endpoint can't be trusted."""
    monkeypatch.setenv("CXRGAZE_S3_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    forget_clients()
    with pytest.raises((StoreUnavailable, ConfigError)) as caught:
        open_store(uri).without_retries().get("a")
    return str(caught.value)


def test_a_certificate_of_another_name_is_told(tls: str, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *more, **options: resolve("127.0.0.1", *more, **options))
    endpoint = os.environ["AWS_ENDPOINT_URL"].replace("127.0.0.1", "s3.example.org")
    assert "is for another name" in refusal(endpoint, authority.bundle, monkeypatch, tls)


def test_a_certificate_that_has_expired_is_told(
    s3: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_authority(tmp_path, timedelta(days=-1))
    with FaultProxy(s3_server.endpoint, tls=old.server) as proxy:
        assert "is not valid now" in refusal(proxy.endpoint, old.bundle, monkeypatch, s3)


def test_a_bundle_without_a_certificate_is_told(tls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.pem").write_text("-")
    told = refusal(os.environ["AWS_ENDPOINT_URL"], tmp_path / "empty.pem", monkeypatch, tls)
    assert told.startswith("The CA bundle for S3 holds no certificate")


def test_an_endpoint_without_tls_is_told(
    s3: str, s3_server: S3Server, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = refusal(s3_server.endpoint.replace("http:", "https:"), authority.bundle, monkeypatch, s3)
    assert "speaks https" in told


@pytest.mark.parametrize("name", ["CXRGAZE_S3_CA_BUNDLE", "AWS_CA_BUNDLE"])
def test_with_its_authority_everything_works(
    tls: str, authority: Authority, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(authority.bundle))
    forget_clients()
    store = open_store(tls)
    use(store)
    assert read_by_arrow(store) == [1, 2]


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_the_bucket_is_named_where_it_is_wanted(
    fault_proxy: FaultProxy, s3: str, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    resolve = socket.getaddrinfo

    def resolve_below_localhost(host: str, *arguments: object, **options: object) -> object:
        return resolve("127.0.0.1" if host.endswith(".localhost") else host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve_below_localhost)  # Arrow's curl knows that by itself
    monkeypatch.setenv("AWS_ENDPOINT_URL", fault_proxy.endpoint.replace("127.0.0.1", "localhost"))
    monkeypatch.setenv("CXRGAZE_S3_ADDRESSING", style)
    forget_clients()
    store = open_store(s3)
    use(store)
    assert read_by_arrow(store) == [1, 2]
    named = [
        (one.headers["host"].startswith("test.localhost:"), one.path.startswith("/test"))
        for one in fault_proxy.requests
    ]
    assert set(named) == {(True, False) if style == "virtual" else (False, True)}


@pytest.mark.parametrize("pays", [True, False])
def test_who_asks_pays(fault_proxy: FaultProxy, s3: str, monkeypatch: pytest.MonkeyPatch, pays: bool) -> None:
    monkeypatch.setenv("CXRGAZE_S3_REQUESTER_PAYS", str(pays))
    forget_clients()
    use(open_store(s3))
    assert {one.headers.get("x-amz-request-payer") for one in fault_proxy.requests} == {"requester" if pays else None}
    assert {one.method for one in fault_proxy.requests} == {"GET", "HEAD", "PUT", "DELETE"}


def test_a_probe_finds_a_sound_store(s3: str) -> None:
    store = open_store(s3)
    found = probe(store)
    assert found.sound
    assert str(found).startswith("conditional put works; put ")
    assert list(store.list()) == []


def test_a_probe_finds_a_store_that_refuses_conditions(fault_proxy: FaultProxy, s3: str) -> None:
    fault_proxy.add(Fault("not_implemented", "PUT", skip=1))
    found = probe(open_store(s3))
    assert not found.sound
    assert found.conditional.startswith("is refused: The store of s3://")


def test_arrow_sits_short_outages_out(fault_proxy: FaultProxy, s3: str, tmp_path: Path) -> None:
    store = open_store(s3)
    use(store)
    fault = fault_proxy.add(Fault("slow_down", times=4))
    assert read_by_arrow(store) == [1, 2]
    assert fault.hits == 4
