"""Stores that lack something AWS has: they work where they can, and the true cause is named where they can't."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from cxrgaze_ray.errors import StoreUnavailable
from cxrgaze_ray.storage import open_store, probe
from cxrgaze_ray.storage.s3_client import forget_clients
from tests.authority import Authority, make_authority
from tests.plain_s3 import Lack, PlainS3
from tests.store_contract import CHECKS, Check

URI = "s3://bucket/prefix"
Start = Callable[[Collection[Lack]], PlainS3]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["http", "https"])
def start(request: pytest.FixtureRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Give what starts a store, over HTTP or TLS, and points this process to it."""
    with ExitStack() as stack:

        def begin(lacks: Collection[Lack]) -> PlainS3:
            store = stack.enter_context(PlainS3(lacks, authority.server if request.param == "https" else None))
            for name, value in (store.environment() | {"AWS_CA_BUNDLE": str(authority.bundle)}).items():
                monkeypatch.setenv(name, value)
            forget_clients()
            return store

        yield begin


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_store_without_trailers_can_all_that_a_store_can(start: Start, check: Check) -> None:
    start({"trailers"})
    check(open_store(URI))


def test_arrow_sends_no_trailers_wherever_it_is_carried(start: Start) -> None:
    store = start({"trailers"})
    filesystem, root = open_store(URI).filesystem()
    for carried in (filesystem, pickle.loads(pickle.dumps(filesystem))):  # noqa: S301
        with carried.open_output_stream(f"{root}/a") as stream:
            stream.write(bytes(2**20))
        with carried.open_input_stream(f"{root}/a") as stream:
            assert stream.read() == bytes(2**20)
        assert carried.get_file_info(root).type == pafs.FileType.Directory
    assert not any(name.startswith(("x-amz-checksum-", "x-amz-trailer")) for sent in store.headers for name in sent)


def test_a_store_without_trailers_is_sound(start: Start) -> None:
    start({"trailers"})
    assert probe(open_store(URI)).sound


@pytest.mark.parametrize("where", ["environment", "profile"])
def test_checksums_that_were_asked_for_are_sent(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    if where == "environment":
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "WHEN_SUPPORTED")
    else:
        (tmp_path / "config").write_text("[default]\nrequest_checksum_calculation = when_supported\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    store = start(())
    open_store(URI).put("a", b"-")
    with open_store(URI).filesystem()[0].open_output_stream("bucket/b") as stream:
        stream.write(b"-")
    sent = [one for one in store.headers if "x-amz-trailer" in one or "x-amz-checksum-crc32" in one]
    assert len(sent) == 2


def test_trailers_that_were_asked_for_and_refused_are_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    store = start({"trailers"})
    if store.endpoint.startswith("http:"):  # over HTTP botocore sends them as plain headers
        assert probe(open_store(URI)).sound
        return
    with pytest.raises(StoreUnavailable, match=r"aws-chunked is not supported\)\. .* AWS_REQUEST_CHECKSUM_CALCULATION"):
        probe(open_store(URI))
    with pytest.raises(StoreUnavailable) as caught:
        open_store(URI).put_if_absent("a", b"-")
    assert "conditional" not in str(caught.value)


@pytest.mark.parametrize(
    ("lack", "found"),
    [
        ("conditions", r"is refused: .* refuses conditional puts \(NotImplemented: A header .*\)\. Use a store that"),
        ("honesty", "is IGNORED"),
        ("absence", "is refused though there is no object yet"),
    ],
)
def test_a_probe_says_how_conditional_puts_fail(start: Start, lack: Lack, found: str) -> None:
    start({lack})
    result = probe(open_store(URI))
    assert not result.sound
    assert re.match(found, result.conditional)


def test_a_store_that_takes_no_writes_is_not_said_to_lack_conditions(start: Start) -> None:
    start({"writes"})
    with pytest.raises(StoreUnavailable, match=r"refuses puts \(NotImplemented: This bucket is a mirror\)"):
        probe(open_store(URI))
