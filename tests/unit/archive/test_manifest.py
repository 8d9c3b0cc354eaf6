"""One row a file, whatever the archive's layout; a listed file is fetched as it was listed."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.archive.manifest import Manifest, fetch_listed, list_archive
from cxrgaze_ray.errors import RadiographError, StoreNotFound, UserError
from cxrgaze_ray.schemas import MANIFEST, Reason
from tests.dicom_files import gradient, make_dicom, picture

DICOM = make_dicom(gradient(12, 10))
STUDY = "files/p10/p10000032/s50414267"
DICOM_ID = "02aa804e-bde0afdd-112c0b34-7bc16630-4e384014"
RECORDS = "cxr-record-list.csv.gz"
METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"


def put(root: Path, path: str, data: bytes = DICOM) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return target


def put_list(root: Path, *rows: str, name: str = RECORDS, header: str = "subject_id,study_id,dicom_id,path") -> None:
    put(root, name, gzip.compress("\n".join([header, *rows, ""]).encode()))


def by_name(manifest: Manifest) -> dict[str, dict[str, Any]]:
    return {row["uri"].rpartition("/")[2]: row for row in manifest.table.to_pylist()}


def test_a_record_list_gives_the_ids(tmp_path: Path) -> None:
    put(tmp_path, f"{STUDY}/x.dcm")
    put_list(tmp_path, f"7,8,the-id,{STUDY}/x.dcm")
    manifest = list_archive(str(tmp_path))
    assert manifest.layout == "mimic-cxr"
    assert manifest.table.schema == MANIFEST
    (row,) = manifest.table.to_pylist()
    assert (row["image_id"], row["subject_id"], row["study_id"]) == ("the-id", "7", "8")
    assert (row["uri"], row["size_bytes"], row["format"]) == (f"{tmp_path}/{STUDY}/x.dcm", len(DICOM), "dicom")


def test_a_record_list_may_be_unpacked(tmp_path: Path) -> None:
    put(tmp_path, "x.dcm")
    put(tmp_path, "cxr-record-list.csv", b"subject_id,study_id,dicom_id,path\n07,008,0009,x.dcm\n")
    (row,) = list_archive(str(tmp_path)).table.to_pylist()
    assert (row["image_id"], row["subject_id"], row["study_id"]) == ("0009", "07", "008")


def test_a_listed_but_absent_file_is_a_row(tmp_path: Path) -> None:
    put(tmp_path, f"{STUDY}/here.dcm")
    put_list(tmp_path, f"7,8,here,{STUDY}/here.dcm", f"7,8,gone,{STUDY}/gone.jpg")
    manifest = list_archive(str(tmp_path))
    gone = by_name(manifest)["gone.jpg"]
    assert (gone["image_id"], gone["subject_id"], gone["size_bytes"], gone["etag"]) == ("gone", "7", None, None)
    assert gone["format"] == "jpeg"
    assert (manifest.counts["files"], manifest.counts["missing"]) == (2, 1)
    with pytest.raises(RadiographError) as error:
        fetch_listed(gone)
    assert error.value.reason == Reason.MISSING


def test_files_beside_the_list_are_rows_too(tmp_path: Path) -> None:
    put(tmp_path, f"{STUDY}/listed.dcm")
    put(tmp_path, f"{STUDY}/beside.dcm")
    put(tmp_path, "extra/scan.dcm")
    put_list(tmp_path, f"7,8,the-id,{STUDY}/listed.dcm")
    rows = by_name(list_archive(str(tmp_path)))
    assert sorted(rows) == ["beside.dcm", "listed.dcm", "scan.dcm"]
    assert (rows["beside.dcm"]["image_id"], rows["beside.dcm"]["study_id"]) == ("beside", "50414267")
    assert rows["scan.dcm"]["study_id"] is None


def test_mimic_paths_give_the_ids_without_a_list(tmp_path: Path) -> None:
    other = DICOM_ID.replace("0", "1")
    put(tmp_path, f"{STUDY}/{DICOM_ID}.dcm")
    put(tmp_path, f"p11/p11000001/s59999999/{other}.jpg", picture(gradient(bits=8).astype("uint8"), "JPEG"))
    manifest = list_archive(str(tmp_path))
    assert manifest.layout == "mimic-cxr"
    ids = {(row["image_id"], row["subject_id"], row["study_id"]) for row in manifest.table.to_pylist()}
    assert ids == {(DICOM_ID, "10000032", "50414267"), (other, "11000001", "59999999")}
    assert (manifest.counts["format_dicom"], manifest.counts["format_jpeg"]) == (1, 1)


def test_ids_of_a_plain_tree_follow_from_paths(tmp_path: Path) -> None:
    for root in ("one", "two"):
        put(tmp_path / root, "a/x.dcm")
        put(tmp_path / root, "b/x.dcm")
    first, second = (list_archive(str(tmp_path / root)) for root in ("one", "two"))
    ids = first.table["image_id"].to_pylist()
    assert first.layout == "tree"
    assert ids == second.table["image_id"].to_pylist()
    assert len(set(ids)) == 2
    assert all(len(one) == 32 and int(one, 16) for one in ids)
    assert first.table["subject_id"].null_count == first.table["study_id"].null_count == 2


def test_files_without_extension_are_known_by_their_bytes(tmp_path: Path) -> None:
    pixels = gradient(bits=8).astype("uint8")
    put(tmp_path, "IM0001")
    put(tmp_path, "IM0002", picture(pixels, "PNG"))
    put(tmp_path, "1.2.840.10008", picture(pixels, "JPEG"))
    put(tmp_path, "notes.txt", b"no image")
    put(tmp_path, "nothing", b"")
    put(tmp_path, "UPPER.DCM")
    formats = {name: row["format"] for name, row in by_name(list_archive(str(tmp_path))).items()}
    assert formats == {
        "IM0001": "dicom",
        "IM0002": "png",
        "1.2.840.10008": "jpeg",
        "notes.txt": "other",
        "nothing": "other",
        "UPPER.DCM": "dicom",
    }


def test_what_is_no_input_is_counted_and_not_listed(tmp_path: Path) -> None:
    put(tmp_path, "x.dcm")
    for path in (".DS_Store", ".git/config", "a/.hidden/x.dcm"):
        put(tmp_path, path)
    for path in ("x.dcm_.gstmp", "a/y.dcm_.gstmp"):
        put(tmp_path, path)
    tables = ("labels.csv", "IMAGE_FILENAMES", "cxr-study-list.csv.gz")
    gaze = ("egd/master_sheet.csv", "egd/eye_gaze.csv", "egd/audio_segmentation_transcripts/x/audio.wav")
    anywhere = ("README.md", "a/LICENSE.txt", "a/b/SHA256SUMS.txt", "index.html", "README")
    for path in (*tables, *gaze, *anywhere):
        put(tmp_path, path)
    manifest = list_archive(str(tmp_path))
    assert list(by_name(manifest)) == ["x.dcm"]
    counts = {name: manifest.counts[name] for name in ("files", "hidden", "incomplete", "metadata")}
    assert counts == {"files": 1, "hidden": 3, "incomplete": 2, "metadata": 11}
    assert manifest.counts["bytes"] == len(DICOM)


def test_tables_of_a_layout_away_from_their_place_are_inputs(tmp_path: Path) -> None:
    elsewhere = [
        "site/labels.csv",
        "site/cxr-record-list.csv.gz",
        "site/eye_gaze.csv",
        "LICENSE-scan.dcm",
        "README.dcm",
    ]
    for path in (*elsewhere, "DICOMDIR"):
        put(tmp_path, path)
    rows = list_archive(str(tmp_path)).table["uri"].to_pylist()
    assert sorted(rows) == sorted(f"{tmp_path}/{path}" for path in (*elsewhere, "DICOMDIR"))


def test_a_single_file_is_an_archive(tmp_path: Path) -> None:
    path = put(tmp_path, "x.dcm")
    put(tmp_path, "y.dcm")
    manifest = list_archive(str(path))
    assert manifest.table["uri"].to_pylist() == [str(path)]
    assert fetch_listed(manifest.table.to_pylist()[0]) == DICOM


def test_a_single_file_beside_a_record_list_is_one_row(tmp_path: Path) -> None:
    path = put(tmp_path, "x.dcm")
    put(tmp_path, "y.dcm")
    put_list(tmp_path, "7,8,x-id,x.dcm", "7,8,y-id,y.dcm", "7,8,gone,gone.dcm")
    assert list_archive(str(path)).table["image_id"].to_pylist() == ["x-id"]


def test_an_archive_may_be_named_by_a_way_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "archive/x.dcm")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for uri in ("../archive", "../archive/x.dcm"):
        (row,) = list_archive(uri).table.to_pylist()
        assert fetch_listed(row) == DICOM


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no file in .* Check the URI\."):
        list_archive(str(tmp_path))


def test_a_folder_of_metadata_only_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "README.md")
    with pytest.raises(UserError, match="There is no file"):
        list_archive(str(tmp_path))


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match=str(tmp_path / "nowhere")):
        list_archive(str(tmp_path / "nowhere"))


def test_views_come_from_the_metadata(tmp_path: Path) -> None:
    for name in ("front", "side", "blank", "unlisted"):
        put(tmp_path, f"{STUDY}/{name}.dcm")
    put_list(tmp_path, "front,PA", "side,LATERAL", "blank,", name=METADATA, header="dicom_id,ViewPosition")
    manifest = list_archive(str(tmp_path))
    views = {row["image_id"]: (row["view_position"], row["view_source"]) for row in manifest.table.to_pylist()}
    assert views == {
        "front": ("PA", "metadata"),
        "side": ("LATERAL", "metadata"),
        "blank": (None, "unknown"),
        "unlisted": (None, "unknown"),
    }
    counts = {name: count for name, count in manifest.counts.items() if name.startswith("view_")}
    assert counts == {
        "view_LATERAL": 1,
        "view_PA": 1,
        "view_unknown": 2,
        "view_source_metadata": 2,
        "view_source_unknown": 2,
    }
    assert manifest.table.schema == MANIFEST


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(b"subject_id,study_id,dicom_id\n7,8,x\n"),
        gzip.compress(b"subject_id,study_id,dicom_id,path\n7,8,x\n"),
        gzip.compress(b""),
        gzip.compress(b"subject_id,study_id,dicom_id,path\n7,8,x,x.dcm\n")[:-9],
        b"subject_id,study_id,dicom_id,path\n7,8,x,x.dcm\n",
        gzip.compress(b"subject_id,study_id,dicom_id,path\n7,8,x,x.dcm\n")[:10] + bytes([0xFF] * 40),
        gzip.compress(b"subject_id,study_id,dicom_id,path\n7,8,\xff\xfe,x.dcm\n"),
    ],
    ids=["no-path", "short-row", "empty", "truncated", "not-gzip", "bad-deflate", "not-utf8"],
)
def test_a_malformed_record_list_is_named(tmp_path: Path, data: bytes) -> None:
    put(tmp_path, "x.dcm")
    put(tmp_path, RECORDS, data)
    with pytest.raises(UserError, match="cxr-record-list"):
        list_archive(str(tmp_path))


def test_repeated_ids_are_flagged_and_not_merged(tmp_path: Path) -> None:
    once = DICOM_ID.replace("0", "1")
    for path in (f"{STUDY}/{DICOM_ID}.dcm", f"copy/{STUDY}/{DICOM_ID}.dcm", f"{STUDY}/{DICOM_ID}.jpg"):
        put(tmp_path, path)
    put(tmp_path, f"{STUDY}/{once}.dcm")
    manifest = list_archive(str(tmp_path))
    flags = [(row["image_id"], row["repeated_id"]) for row in manifest.table.to_pylist()]
    assert sorted(flags) == [(DICOM_ID, True)] * 3 + [(once, False)]
    assert manifest.counts["repeated_ids"] == 3


def test_rows_are_ordered_by_path(tmp_path: Path) -> None:
    paths = ["b.dcm", "a/z.dcm", "a-b.dcm", "c/1.dcm"]
    for path in paths:
        put(tmp_path, path)
    put_list(tmp_path, "1,2,gone,a/absent.dcm")
    uris = list_archive(str(tmp_path)).table["uri"].to_pylist()
    assert uris == sorted(uris)
    assert len(uris) == 5


def test_two_listings_are_the_same(tmp_path: Path) -> None:
    put(tmp_path, f"{STUDY}/x.dcm")
    put_list(tmp_path, f"7,8,the-id,{STUDY}/x.dcm", f"7,8,gone,{STUDY}/gone.dcm")
    one, two = list_archive(str(tmp_path)), list_archive(f"{tmp_path}/")
    assert one.table.equals(two.table)
    assert one.sha256() == two.sha256()
    assert one.counts == two.counts


def test_the_hash_follows_files(tmp_path: Path) -> None:
    path = put(tmp_path, "x.dcm", b"a" * 300)
    put(tmp_path, "README.md", b"one")
    first = list_archive(str(tmp_path)).sha256()
    put(tmp_path, "README.md", b"two")
    assert list_archive(str(tmp_path)).sha256() == first
    path.write_bytes(b"b" * 300)
    os.utime(path, ns=(1, 1))
    second = list_archive(str(tmp_path)).sha256()
    put(tmp_path, "y.dcm")
    assert len({first, second, list_archive(str(tmp_path)).sha256()}) == 3


def test_a_listed_file_is_fetched(tmp_path: Path) -> None:
    put(tmp_path, "x.dcm")
    (row,) = list_archive(str(tmp_path)).table.to_pylist()
    assert fetch_listed(row) == DICOM


def test_a_file_that_went_is_missing(tmp_path: Path) -> None:
    path = put(tmp_path, "x.dcm")
    (row,) = list_archive(str(tmp_path)).table.to_pylist()
    path.unlink()
    with pytest.raises(RadiographError) as error:
        fetch_listed(row)
    assert error.value.reason == Reason.MISSING


@pytest.mark.parametrize("data", [b"longer than before" * 200, b"b" * 300], ids=["another-size", "same-size"])
def test_another_file_at_the_place_is_changed(tmp_path: Path, data: bytes) -> None:
    path = put(tmp_path, "x.dcm", b"a" * 300)
    (row,) = list_archive(str(tmp_path)).table.to_pylist()
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    with pytest.raises(RadiographError) as error:
        fetch_listed(row)
    assert error.value.reason == Reason.CHANGED


def test_an_empty_file_is_told_without_asking_for_it(tmp_path: Path) -> None:
    path = put(tmp_path, "x.dcm", b"")
    (row,) = list_archive(str(tmp_path)).table.to_pylist()
    path.unlink()
    with pytest.raises(RadiographError) as error:
        fetch_listed(row)
    assert error.value.reason == Reason.EMPTY_FILE
