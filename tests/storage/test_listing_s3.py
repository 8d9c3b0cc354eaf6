"""Archives and lists in a bucket."""

from __future__ import annotations

import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from cxrgaze_ray.archive.manifest import fetch_listed, list_archive, lists
from cxrgaze_ray.errors import EnvironmentFault, RadiographError, StoreDenied, UserError
from cxrgaze_ray.schemas import Reason
from cxrgaze_ray.storage import Store, open_store
from cxrgaze_ray.storage.s3_client import client
from tests.conftest import clear_clients

DICOM = bytes(128) + b"DICM"
CANARY = "Canaryson-Birdie"


@pytest.fixture
def store(s3: str) -> Store:
    return open_store(f"{s3}/archive")


def put_all(store: Store, keys: list[str], data: bytes = DICOM) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: store.put(key, data), keys))


def test_objects_without_extension_are_known_by_their_bytes(store: Store) -> None:
    put_all(store, [f"a/IM{number:03d}" for number in range(70)])
    store.put("b/notes", b"no image")
    store.put("b/empty", b"")
    manifest = list_archive(store.uri)
    assert (manifest.counts["format_dicom"], manifest.counts["format_other"]) == (70, 2)
    assert fetch_listed(manifest.table.to_pylist()[0]) == DICOM


def test_keys_that_are_no_paths_are_rows(store: Store) -> None:
    store.put("x.dcm", DICOM)
    s3, bucket, prefix = client(), "test", store.uri.removeprefix("s3://test/")
    s3.put_object(Bucket=bucket, Key=f"{prefix}/a b+c%20d&é.dcm", Body=DICOM)
    rows = list_archive(store.uri).table.to_pylist()
    assert len(rows) == 2
    assert [fetch_listed(row) for row in rows] == [DICOM, DICOM]


def test_names_of_any_characters_are_rows(store: Store) -> None:
    keys = ["bell\a.dcm", "new\nline.dcm", "tab\tx", "x../y..", "long-" + "n" * 240]
    put_all(store, keys)
    rows = {row["uri"]: row for row in list_archive(store.uri).table.to_pylist()}
    assert sorted(rows) == sorted(f"{store.uri}/{key}" for key in keys)
    assert [fetch_listed(row) for row in rows.values()] == [DICOM] * len(keys)


def test_keys_that_this_store_refuses_are_missing_and_stop_nothing(store: Store) -> None:
    store.put("a/x.dcm", DICOM)
    entries = [f"{store.uri}/a/x.dcm", f"{store.uri}/a/../a/x.dcm", f"{store.uri}/./a/x.dcm", f"{store.uri}/.."]
    store.put("list.csv", "\n".join(["uri", *entries]).encode())
    manifest = list_archive(f"{store.uri}/list.csv")
    found = {row["uri"]: row["size_bytes"] for row in manifest.table.to_pylist()}
    assert found == dict.fromkeys(entries) | {entries[0]: len(DICOM)}
    assert manifest.counts["missing"] == 3


def test_a_store_that_takes_two_slashes_for_one_is_told_from_an_empty_archive(store: Store) -> None:
    store.put("a/x.dcm", DICOM)
    with pytest.raises(UserError, match="without doubled slashes"):
        list_archive(f"{store.uri}//")


def test_one_object_is_an_archive(store: Store) -> None:
    put_all(store, ["x.dcm", "x.dcm.bak"])
    assert list_archive(f"{store.uri}/x.dcm").table["uri"].to_pylist() == [f"{store.uri}/x.dcm"]


@pytest.mark.parametrize("few", [1000, 1], ids=["asked-for", "listed"])
def test_a_list_in_a_bucket(store: Store, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(lists, "_FEW", few)
    put_all(store, ["a/x.dcm", "a/y"])
    entries = ["a/x.dcm", f"{store.uri}/a/y", "a/gone.dcm", "s3://no-such-bucket/x.dcm", "s3://b!/x", "../x.dcm"]
    store.put("list.csv", "\n".join(["uri", *entries]).encode())
    manifest = list_archive(f"{store.uri}/list.csv")
    reasons: dict[str, object] = {}
    for row in manifest.table.to_pylist():
        try:
            reasons[row["uri"].rpartition("/")[2]] = fetch_listed(row)
        except RadiographError as error:
            reasons[row["uri"]] = error.reason
    assert reasons == {
        "x.dcm": DICOM,
        "y": DICOM,
        f"{store.uri}/a/gone.dcm": Reason.MISSING,
        "s3://no-such-bucket/x.dcm": Reason.MISSING,
        "invalid:s3://b!/x": Reason.INVALID_URI,
        "invalid:../x.dcm": Reason.INVALID_URI,
    }
    assert (manifest.counts["missing"], manifest.counts["invalid"]) == (2, 2)


def test_a_listing_that_finds_too_much_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "_FEW", 1)
    monkeypatch.setattr(lists, "_WASTE", 2)
    put_all(store, [f"{number:02d}.dcm" for number in range(20)])
    store.put("list.csv", b"uri\n00.dcm\n19.dcm\n99.dcm\n")
    assert list_archive(f"{store.uri}/list.csv").table["size_bytes"].to_pylist() == [len(DICOM), len(DICOM), None]


def test_an_outage_names_no_object(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(f"{CANARY}/x.dcm", DICOM)
    store.put(f"{CANARY}/y", DICOM)
    row = list_archive(store.uri).table.to_pylist()[0]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    clear_clients()
    with pytest.raises(StoreDenied) as denied:
        fetch_listed(row)
    with pytest.raises(StoreDenied, match="The archive s3://"):
        list_archive(store.uri)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("CXRGAZE_S3_RETRY_S", "0")
    clear_clients()
    with pytest.raises(EnvironmentFault) as away:
        fetch_listed(row)
    for caught in (denied, away):
        assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_an_outage_of_the_archive_says_how_long_it_was_sat_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("x.dcm", DICOM)
    row = list_archive(store.uri).table.to_pylist()[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("CXRGAZE_S3_RETRY_S", "0.2")
    clear_clients()
    with pytest.raises(EnvironmentFault, match=r"can't be read .* retried for 0\.2 s"):
        fetch_listed(row)
