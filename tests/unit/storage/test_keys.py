"""S3 takes keys as they are, and so do archives: doubled, leading and trailing slashes, ``.`` and ``..``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cxrgaze_ray.archive.manifest import fetch_listed, list_archive
from cxrgaze_ray.errors import RadiographError, StoreDenied, UserError
from cxrgaze_ray.schemas import Reason
from cxrgaze_ray.storage import open_store
from tests.conftest import clear_clients
from tests.literal_s3 import BUCKET, LiteralS3
from tests.unit.archive.test_manifest import DICOM

ODD = [
    "a//x.dcm", "a///x.dcm", "/x.dcm", "//x.dcm", "a/./x.dcm", "a/../x.dcm", "../x.dcm", "./x.dcm", "x.dcm/", "tail/",
    "new\nline", "bell\a.dcm", "a b+c%20d&é.dcm", "x../y..", "x.dcm/..",
]  # fmt: skip


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiteralS3]:
    with LiteralS3() as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "-")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "-")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("CXRGAZE_S3_RETRY_S", "0")
        clear_clients()
        yield store


def fetched(rows: list[dict[str, Any]]) -> dict[str, bytes | str]:
    """Return what comes of rows, by URI: bytes, or the reason."""
    found: dict[str, bytes | str] = {}
    for row in rows:
        try:
            found[row["uri"]] = fetch_listed(row)
        except RadiographError as error:
            found[row["uri"]] = str(error.reason)
    return found


@pytest.mark.parametrize("root", ["", "/cxr/", "//cxr", "//", "/a//"])
def test_every_key_is_listed_and_fetched_as_it_is(store: LiteralS3, root: str) -> None:
    path = root.removeprefix("/")
    lead = path if not path or path.endswith("/") else f"{path}/"
    store.objects = {lead + key: DICOM + key.encode() for key in ODD}
    store.objects |= {f"{lead}marker/": b"", f"{lead}.hidden": b"-", f"{lead}a/..hidden": b"-"}
    store.objects |= {f"elsewhere{key}": b"-" for key in ("", "/x")} if lead else {}
    manifest = list_archive(f"s3://{BUCKET}{root}")
    assert fetched(manifest.table.to_pylist()) == {f"s3://{BUCKET}/{lead}{key}": DICOM + key.encode() for key in ODD}
    assert len(set(manifest.table["image_id"].to_pylist())) == len(ODD)
    assert {name: manifest.counts[name] for name in ("folder_markers", "hidden", "invalid", "missing")} == {
        "folder_markers": 1, "hidden": 2, "invalid": 0, "missing": 0,
    }  # fmt: skip
    again = list_archive(manifest.uri)
    assert (again.uri, again.sha256()) == (manifest.uri, manifest.sha256())


@pytest.mark.parametrize("key", ["a//x.dcm", "/x.dcm", "a/../x.dcm", "new\nline"])
def test_one_object_is_an_archive_whatever_its_key(store: LiteralS3, key: str) -> None:
    store.objects = {key: DICOM, f"{key}x": b"-", "x.dcm" if key != "x.dcm" else "y": b"another"}
    rows = list_archive(f"s3://{BUCKET}/{key}").table.to_pylist()
    assert fetched(rows) == {f"s3://{BUCKET}/{key}": DICOM}


def test_a_list_names_keys_as_they_are_and_leaves_its_folder_only_by_name(store: LiteralS3) -> None:
    store.objects = {key: key.encode() for key in ("a//x", "/x", "a/../x", "tail/", "lists//rel//y")}
    entries = [f"s3://{BUCKET}/{key}" for key in list(store.objects)[:4]]
    store.objects["lists//l.csv"] = "\n".join(["uri", *entries, "rel//y", "rel/../rel//y"]).encode()
    assert fetched(list_archive(f"s3://{BUCKET}/lists//l.csv").table.to_pylist()) == {
        **{f"s3://{BUCKET}/{key}": key.encode() for key in ("a//x", "/x", "a/../x", "tail/", "lists//rel//y")},
        "invalid:rel/../rel//y": Reason.INVALID_URI,
    }


def test_where_we_write_slashes_at_the_ends_mean_nothing(store: LiteralS3) -> None:
    for uri in (f"s3://{BUCKET}/runs", f"s3://{BUCKET}/runs/", f"s3://{BUCKET}//runs//"):
        assert open_store(uri).locate("x") == f"s3://{BUCKET}/runs/x"
    with pytest.raises(UserError, match="leads out of its store"):
        open_store(f"s3://{BUCKET}/runs").put("../x", b"-")


def test_an_archived_object_is_a_row_that_says_so(store: LiteralS3) -> None:
    store.objects = {"cold.dcm": DICOM, "cold": DICOM, "warm.dcm": DICOM}
    store.refused = {"cold.dcm": "InvalidObjectState", "cold": "InvalidObjectState"}
    found = fetched(list_archive(f"s3://{BUCKET}").table.to_pylist())
    assert [found[f"s3://{BUCKET}/{key}"] for key in ("cold.dcm", "cold", "warm.dcm")] == [
        Reason.UNREADABLE, Reason.UNREADABLE, DICOM,
    ]  # fmt: skip


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_access_that_is_denied_is_never_a_row(store: LiteralS3, code: str) -> None:
    store.objects = {"one.dcm": DICOM, "two.dcm": DICOM}
    rows = list_archive(f"s3://{BUCKET}").table.to_pylist()
    store.refused = {"one.dcm": code}
    with pytest.raises(StoreDenied, match=code):
        fetch_listed(rows[0])


def test_an_object_that_was_replaced_is_changed(store: LiteralS3) -> None:
    store.objects = {"x.dcm": DICOM}
    rows = list_archive(f"s3://{BUCKET}").table.to_pylist()
    store.objects = {"x.dcm": DICOM + b"-"}
    assert fetched(rows) == {f"s3://{BUCKET}/x.dcm": Reason.CHANGED}
