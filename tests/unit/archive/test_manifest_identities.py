"""Who rows are of: kept in de-identified layouts, keyed elsewhere; and no message names a file's place."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ResponseStreamingError

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.manifest import fetch_listed, list_archive
from cxrgaze_ray.errors import EnvironmentFault, RadiographError, StoreDenied, StoreUnavailable
from cxrgaze_ray.schemas import Reason
from cxrgaze_ray.storage import ObjectInfo, S3Store
from tests.unit.archive.test_manifest import DICOM, DICOM_ID, STUDY, put, put_list
from tests.unit.archive.test_manifest_lists import saved, write

KEYED = Identities(b"k" * 32)
CANARY = "Canaryson^Birdie"


def never() -> Identities:
    raise AssertionError("The key is not needed.")


def keyed(kind: Any, raw: str) -> str:
    found = KEYED.of(kind, raw)
    assert found is not None
    return found


def test_a_tree_has_keyed_ids_of_paths(tmp_path: Path) -> None:
    put(tmp_path, f"{CANARY}/x.dcm")
    put(tmp_path, f"{STUDY}/{DICOM_ID}.dcm")
    manifest = list_archive(str(tmp_path), KEYED)
    rows = {row["uri"].rpartition("/")[2]: row for row in manifest.table.to_pylist()}
    assert (manifest.layout, manifest.identities) == ("tree", KEYED.name)
    assert rows["x.dcm"]["image_id"] == keyed("image", f"{CANARY}/x.dcm")
    mimic = rows[f"{DICOM_ID}.dcm"]
    assert (mimic["image_id"], mimic["subject_id"], mimic["study_id"]) == (
        keyed("image", DICOM_ID), keyed("patient", "10000032"), keyed("study", "50414267"),
    )  # fmt: skip


def test_ids_of_a_list_are_keyed(tmp_path: Path) -> None:
    put(tmp_path, "x.dcm")
    columns = {"uri": ["x.dcm"], "image_id": ["a b"], "subject_id": [CANARY], "study_id": ["3"]}
    (row,) = list_archive(write(tmp_path / "list.csv", columns), lambda: KEYED).table.to_pylist()
    found = (row["image_id"], row["subject_id"], row["study_id"])
    assert found == (keyed("image", "a b"), keyed("patient", CANARY), keyed("study", "3"))


def test_keys_change_the_hash_of_a_listing(tmp_path: Path) -> None:
    put(tmp_path, "x.dcm")
    hashes = {list_archive(str(tmp_path), one).sha256() for one in (None, KEYED, Identities(b"l" * 32))}
    assert len(hashes) == 3


def records(root: Path) -> None:
    put(root, "x.dcm")
    put_list(root, "7,8,the-id,x.dcm")


def metadata(root: Path) -> None:
    put(root, f"{STUDY}/the-id.jpg")
    put_list(root, "the-id,7,8", name="mimic-cxr-2.0.0-metadata.csv.gz", header="dicom_id,subject_id,study_id")


def strict_paths(root: Path) -> None:
    put(root, f"{STUDY}/{DICOM_ID}.dcm")
    put(root, f"{STUDY}/notes.pdf", b"%PDF")


def phantoms(root: Path) -> None:
    put(root, "x.dcm")
    put(root, "phantoms.json", b"{}")


@pytest.mark.parametrize("make", [records, metadata, strict_paths, phantoms], ids=lambda make: make.__name__)
def test_de_identified_layouts_need_no_key(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    manifest = list_archive(str(tmp_path), never)
    assert manifest.identities == "keep"
    assert manifest.table.equals(list_archive(str(tmp_path)).table)


def test_paths_of_almost_mimics_form_are_a_tree(tmp_path: Path) -> None:
    put(tmp_path, f"p10/p100/s5/{CANARY.replace('^', '-')}.dcm")
    put(tmp_path, f"{STUDY}/{DICOM_ID.upper()}.dcm")
    manifest = list_archive(str(tmp_path), KEYED)
    assert manifest.layout == "tree"
    assert manifest.table["subject_id"].null_count == 2


def test_a_manifest_is_not_keyed_again(tmp_path: Path) -> None:
    put(tmp_path / "archive", "x.dcm")
    first = list_archive(str(tmp_path / "archive"), KEYED)
    again = list_archive(saved(first, tmp_path / "manifest.parquet"), never)
    assert again.table.equals(first.table)
    assert again.identities == KEYED.name


def test_an_outage_names_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, f"{CANARY}/{CANARY}.dcm")
    (row,) = list_archive(str(tmp_path)).table.to_pylist()

    def fail(error: OSError) -> Callable[..., None]:
        def refuse(*_: object) -> None:
            raise error

        return refuse

    faults: list[tuple[OSError, type[EnvironmentFault]]] = [
        (PermissionError(13, "Permission denied", str(path)), StoreDenied),
        (OSError(5, "Input/output error", str(path)), StoreUnavailable),
    ]
    for error, kind in faults:
        monkeypatch.setattr(os, "open", fail(error))
        with pytest.raises(kind, match=str(error.strerror)) as caught:
            fetch_listed(row)
        assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("number", "where", "kind"),
    [
        (errno.EIO, CANARY, StoreUnavailable),
        (errno.ESTALE, CANARY, StoreUnavailable),
        (errno.EACCES, "", StoreDenied),
    ],
    ids=["disk", "server", "root"],
)
def test_an_outage_while_listing_is_no_row_and_names_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str, kind: type[EnvironmentFault]
) -> None:
    put(tmp_path, "a.dcm")
    put(tmp_path, f"{CANARY}/x.dcm")
    scandir = os.scandir

    def refuse(folder: str) -> Any:
        if where in str(folder):
            raise OSError(number, os.strerror(number), folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(kind, match=f"The archive {tmp_path} can't be read") as caught:
        list_archive(str(tmp_path))
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_permission_that_is_lost_to_all_of_it_while_listing_is_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        put(tmp_path, f"{number}/x.dcm")
    scandir, listed = os.scandir, 0

    def expire(folder: str) -> Any:  # as a ticket of a file server does
        nonlocal listed
        listed += 1
        if listed > 4:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", expire)
    with pytest.raises(StoreDenied, match=f"The archive {tmp_path} can't be read"):
        list_archive(str(tmp_path))


def test_malformed_tables_show_no_value(tmp_path: Path) -> None:
    put(tmp_path, "x.dcm")
    put_list(tmp_path, f"{CANARY},1")
    with pytest.raises(Exception, match="line 2: 2 cells") as caught:
        list_archive(str(tmp_path))
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_reasons_name_no_file(tmp_path: Path) -> None:
    put(tmp_path, f"{CANARY}.dcm", b"")
    path = put(tmp_path, f"{CANARY}/x.dcm")
    rows = list_archive(str(tmp_path)).table.to_pylist()
    path.unlink()
    rows += [rows[0] | {"size_bytes": 2**40}, rows[0] | {"uri": f"invalid:{CANARY}"}]
    reasons = set()
    for row in rows:
        with pytest.raises(RadiographError) as caught:
            fetch_listed(row)
        reasons.add(caught.value.reason)
        assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert reasons == {Reason.EMPTY_FILE, Reason.MISSING, Reason.TOO_LARGE, Reason.INVALID_URI}


def test_a_name_that_is_no_text_is_a_row(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.dcm")).write_bytes(b"-")
    put(tmp_path, "Müller.dcm")
    manifest = list_archive(str(tmp_path))
    odd, sound = sorted(manifest.table.to_pylist(), key=lambda row: str(row["uri"]).startswith("/"))
    assert odd["uri"] == f"file://{tmp_path}/M%FCller.dcm"
    assert (fetch_listed(sound), fetch_listed(odd)) == (DICOM, b"-")
    assert (manifest.counts["invalid"], manifest.counts["missing"]) == (0, 0)


def test_a_body_that_is_cut_off_is_an_outage_without_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(store: S3Store, info: ObjectInfo) -> None:
        try:
            raise ResponseStreamingError(error="IncompleteRead")
        except ResponseStreamingError as error:
            raise StoreUnavailable(f"{info.key} can't be read.", "Again.") from error

    monkeypatch.setattr(S3Store, "fetch_same", cut)
    row = {"uri": f"s3://bucket/{CANARY}.dcm", "size_bytes": 9, "etag": "e", "image_id": "an-id"}
    with pytest.raises(
        StoreUnavailable, match=r"an-id of the archive can't be read \(ResponseStreamingError\)"
    ) as caught:
        fetch_listed(row)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
