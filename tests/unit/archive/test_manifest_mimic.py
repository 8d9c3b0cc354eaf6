"""MIMIC-CXR and MIMIC-CXR-JPG: record lists as they come, and what the tables say of an image."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from cxrgaze_ray.archive.manifest import fetch_listed, list_archive
from cxrgaze_ray.benchmark.listing import measure_listing, write_records
from cxrgaze_ray.errors import RadiographError, UserError
from cxrgaze_ray.schemas import FINDINGS, Reason
from tests.unit.archive.test_manifest import DICOM, RECORDS, STUDY, by_name, put, put_list

HEADER = "subject_id,study_id,dicom_id,path"
METADATA, SPLIT, CHEXPERT, NEGBIO = (
    f"mimic-cxr-2.0.0-{name}.csv.gz" for name in ("metadata", "split", "chexpert", "negbio")
)
IDS = "dicom_id,subject_id,study_id"
LABELS = "subject_id,study_id,Cardiomegaly,Enlarged Cardiomediastinum,Pneumonia"


def jpg(root: Path, *names: str) -> None:
    for name in names:
        put(root, f"{STUDY}/{name}.jpg", b"\xff\xd8\xff" + name.encode())


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff{HEADER}\r\n7,8,one,{STUDY}/one.dcm\r\n\r\n7,8,two,{STUDY}/two.dcm\r\n",
        f'{HEADER}\n\n7,8,"one","{STUDY}/one.dcm"\n7,8,two,{STUDY}/two.dcm',
        f'note,path,DICOM_ID,study_id , Subject_ID\n"a\nb, ""c""",{STUDY}/one.dcm,one,8,7\n,{STUDY}/two.dcm, two,8,7',
    ],
    ids=["bom-crlf-blank", "blank-quoted-no-end", "quoted-newline-other-order"],
)  # fmt: skip
def test_record_lists_as_spreadsheets_write_them(tmp_path: Path, text: str) -> None:
    put(tmp_path, f"{STUDY}/one.dcm")
    put(tmp_path, RECORDS, gzip.compress(text.encode()))
    rows = by_name(list_archive(str(tmp_path)))
    assert sorted(rows) == ["one.dcm", "two.dcm"]
    assert {(row["subject_id"], row["study_id"]) for row in rows.values()} == {("7", "8")}
    assert [rows[f"{name}.dcm"]["image_id"] for name in ("one", "two")] == ["one", "two"]


def test_a_record_list_of_several_gzip_members_is_read_whole(tmp_path: Path) -> None:
    lines = (f"{HEADER}\n", f"7,8,one,{STUDY}/one.dcm\n", f"7,8,two,{STUDY}/two.dcm\n")
    put(tmp_path, RECORDS, b"".join(gzip.compress(line.encode()) for line in lines) + bytes(512))
    assert list_archive(str(tmp_path)).table["image_id"].to_pylist() == ["one", "two"]


def test_a_record_list_that_names_nothing_leaves_the_files(tmp_path: Path) -> None:
    put(tmp_path, "x.dcm")
    put(tmp_path, RECORDS, gzip.compress(HEADER.encode()))
    assert len(list_archive(str(tmp_path)).table) == 1


def test_a_path_that_is_listed_twice_is_one_row(tmp_path: Path) -> None:
    put(tmp_path, f"{STUDY}/one.dcm")
    one, gone = f"{STUDY}/one.dcm", f"{STUDY}/gone.dcm"
    put_list(tmp_path, f"7,8,one,{one}", f"9,9,other,{one}", f"7,8,gone,{gone}", f"7,8,gone,{gone}")
    manifest = list_archive(str(tmp_path))
    assert sorted(manifest.table["image_id"].to_pylist()) == ["gone", "one"]
    assert (manifest.counts["repeated_entries"], manifest.counts["missing"]) == (2, 1)


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.dcm", "a/../../b.dcm", "", "..", "a/" + "b" * 5000])
def test_a_record_may_not_leave_the_archive(tmp_path: Path, path: str) -> None:
    put(tmp_path / "archive", "x.dcm")
    put(tmp_path, "secret.dcm", b"secret")
    put_list(tmp_path / "archive", f"7,8,x,{path}", "7,8,y,x.dcm")
    manifest = list_archive(str(tmp_path / "archive"))
    rows = {row["image_id"]: row for row in manifest.table.to_pylist()}
    assert fetch_listed(rows["y"]) == DICOM
    with pytest.raises(RadiographError) as error:
        fetch_listed(rows["x"])
    assert error.value.reason == Reason.INVALID_URI
    assert (manifest.counts["invalid"], manifest.counts["missing"], manifest.counts["files"]) == (1, 0, 2)


def test_odd_identifiers_are_hashed(tmp_path: Path) -> None:
    put(tmp_path, "x.dcm")
    put(tmp_path, "y.dcm")
    put_list(tmp_path, "../7,8,.hidden,x.dcm", f"7,8 9,{'x' * 65},y.dcm")
    manifest = list_archive(str(tmp_path))
    ids = [row[name] for row in manifest.table.to_pylist() for name in ("image_id", "subject_id", "study_id")]
    assert sorted(len(one) for one in ids) == [1, 1, 32, 32, 32, 32]
    assert all(one.isalnum() for one in ids)
    assert manifest.counts["odd_ids"] == 2


def test_the_jpg_layout_takes_ids_and_absent_files_from_its_metadata(tmp_path: Path) -> None:
    jpg(tmp_path, "one", "beside")
    put_list(tmp_path, "one,10000032,50414267,PA", "gone,10000032,50414267,AP", "../x,10000032,50414267,PA",
             name=METADATA, header=f"{IDS},ViewPosition")  # fmt: skip
    manifest = list_archive(str(tmp_path))
    rows = {row["uri"].rpartition("/")[2]: row for row in manifest.table.to_pylist() if row["uri"][0] == "/"}
    assert manifest.layout == "mimic-cxr-jpg"
    assert {name: row["view_position"] for name, row in rows.items()} == {
        "one.jpg": "PA", "gone.jpg": "AP", "beside.jpg": None,
    }  # fmt: skip
    assert {(row["subject_id"], row["study_id"]) for row in rows.values()} == {("10000032", "50414267")}
    counts = {name: manifest.counts[name] for name in ("files", "missing", "invalid", "format_jpeg")}
    assert counts == {"files": 4, "missing": 1, "invalid": 1, "format_jpeg": 3}


def test_metadata_beside_dicom_files_makes_no_jpeg_rows(tmp_path: Path) -> None:
    put(tmp_path, f"{STUDY}/one.dcm")
    put_list(tmp_path, "one,10000032,50414267,PA", name=METADATA, header=f"{IDS},ViewPosition")
    (row,) = list_archive(str(tmp_path)).table.to_pylist()
    assert (row["format"], row["view_position"], row["view_source"]) == ("dicom", "PA", "metadata")


def test_views_come_by_position_then_code_then_procedure(tmp_path: Path) -> None:
    columns = "ViewPosition,ViewCodeSequence_CodeMeaning,PerformedProcedureStepDescription"
    table = {
        "a": ("AP", "lateral", "CHEST PA", "AP", "metadata"),
        "b": ("", "postero-anterior", "CHEST (PORTABLE AP)", "PA", "metadata"),
        "c": ("", "", "CHEST (PORTABLE AP)", "AP", "procedure"),
        "d": ("no view", "", "CHEST (PA AND LAT)", None, "unknown"),
    }
    jpg(tmp_path, *table)
    lines = [f"{name},10000032,50414267,{','.join(row[:3])}" for name, row in table.items()]
    put_list(tmp_path, *lines, name=METADATA, header=f"{IDS},{columns}")
    rows = list_archive(str(tmp_path)).table.to_pylist()
    views = {row["image_id"]: (row["view_position"], row["view_source"]) for row in rows}
    assert views == {name: row[3:] for name, row in table.items()}


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "csv"])
def test_split_and_findings_are_joined(tmp_path: Path, packed: bool) -> None:
    jpg(tmp_path, "one", "two")
    tables = {
        METADATA: f"{IDS}\none,10000032,50414267\ntwo,10000032,50414267\n",
        SPLIT: f"{IDS},split\none,10000032,50414267,validate\ntwo,10000032,50414267,\n",
        CHEXPERT: f"{LABELS}\n10000032,50414267,1.0,,-1.0\n10000032,99999999,0.0,0.0,0.0\n,,1,1,1\n",
        NEGBIO: f"{LABELS}\n10000032,50414267,0.0,0.0,0.0\n",
    }
    for name, text in tables.items():
        put(
            tmp_path,
            name if packed else name.removesuffix(".gz"),
            gzip.compress(text.encode()) if packed else text.encode(),
        )
    manifest = list_archive(str(tmp_path))
    rows = {row["image_id"]: row for row in manifest.table.to_pylist()}
    assert (rows["one"]["split"], rows["two"]["split"], manifest.counts["split_validate"]) == ("validate", None, 1)
    findings = {name: rows["two"][f"finding_{name}"] for name in FINDINGS}
    assert findings == dict.fromkeys(FINDINGS) | {"cardiomegaly": 1, "pneumonia": -1}


def test_negbio_stands_in_where_chexpert_is_absent(tmp_path: Path) -> None:
    jpg(tmp_path, "one")
    put_list(tmp_path, "one,10000032,50414267", name=METADATA, header=IDS)
    put_list(tmp_path, "10000032,50414267,0.0,,", name=NEGBIO, header=LABELS)
    (row,) = list_archive(str(tmp_path)).table.to_pylist()
    assert (row["finding_cardiomegaly"], row["finding_pneumonia"]) == (0, None)


@pytest.mark.parametrize("label", ["2.0", "0.5", "yes"])
def test_labels_of_another_kind_are_an_error(tmp_path: Path, label: str) -> None:
    jpg(tmp_path, "one")
    put_list(tmp_path, "one,10000032,50414267", name=METADATA, header=IDS)
    put_list(tmp_path, f"10000032,50414267,{label},,", name=CHEXPERT, header=LABELS)
    with pytest.raises(UserError, match="chexpert"):
        list_archive(str(tmp_path))


def test_one_image_of_an_archive_has_its_ids(tmp_path: Path) -> None:
    name = "02aa804e-bde0afdd-112c0b34-7bc16630-4e384014"
    path = put(tmp_path, f"{STUDY}/{name}.dcm")
    manifest = list_archive(str(path))
    (row,) = manifest.table.to_pylist()
    assert (row["image_id"], row["subject_id"], row["study_id"]) == (name, "10000032", "50414267")
    assert (manifest.layout, manifest.uri) == ("mimic-cxr", str(path))


def test_fifty_thousand_records_are_rows(tmp_path: Path) -> None:
    write_records(tmp_path, 50_000)
    manifest = list_archive(str(tmp_path))
    counts = manifest.counts
    assert (counts["files"], counts["missing"], counts["repeated_ids"]) == (50_000, 50_000, 0)
    assert (counts["view_source_procedure"], counts["view_unknown"], counts["split_test"]) == (1000, 1000, 500)
    assert manifest.table["finding_pneumonia"].null_count < 50_000


@pytest.mark.long
def test_all_of_mimic_is_listed_in_a_gigabyte(tmp_path: Path) -> None:
    write_records(tmp_path, 377_110)
    measured = measure_listing(str(tmp_path))
    assert measured.rows == 377_110
    assert measured.peak_bytes < 1e9
    assert measured.seconds < 60
