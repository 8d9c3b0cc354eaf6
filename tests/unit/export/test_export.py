"""A run leaves for other programs: tables, pictures, and DICOM objects that validators accept."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import re
import shutil
import threading
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pydicom
import pytest
from PIL import Image
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    SecondaryCaptureImageStorage,
)

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.manifest import list_archive
from cxrgaze_ray.errors import (
    ConfigError,
    EnvironmentFault,
    Interrupted,
    RadiographError,
    StoreUnavailable,
    UserError,
)
from cxrgaze_ray.export import Exported, export_run, repair
from cxrgaze_ray.export.dicom import DerivedObject
from cxrgaze_ray.export.dicom_sc import capture_bytes
from cxrgaze_ray.export.dicom_sr import report_bytes
from cxrgaze_ray.export.picture import draw_result
from cxrgaze_ray.export.source import NoIdentity, read_source
from cxrgaze_ray.export.uids import file_name, make_uid
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.models.settings import BOTH, Answer
from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.radiograph.preprocess import fit
from cxrgaze_ray.schemas import ANSWERS, CLASSES, HEIGHT, RESULT, STUDIES, SUMMARY, WIDTH
from cxrgaze_ray.scoring.runs import Run, make_plan, table_bytes
from cxrgaze_ray.storage import LocalStore
from tests.answers import ONE, only
from tests.command import Cxrgaze
from tests.dicom_files import CANARY, gradient, make_dicom, picture
from tests.unit.scoring.test_runs import PIN, make_finished, make_run, make_spec, results
from tests.validators import check_object, run_tool

UIDS = {"StudyInstanceUID": "1.2.3.4", "SeriesInstanceUID": "1.2.3.4.5"}
SAMPLES = Path(str(files("data_store"))) / "data"


def spot(y: int = 200, x: int = 150) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    bump = np.exp(-(((rows - y) / 60) ** 2) - ((columns - x) / 60) ** 2)
    return np.asarray(bump / bump.sum(), np.float32)


def answer(planned: dict[str, Any], size: tuple[int, int], **values: Any) -> dict[str, Any]:
    png, peak = saliency.encode(spot())
    names = ("shard", "position", "image_id", "subject_id", "study_id", "repeated_id")
    return {name: planned[name] for name in names} | {
        "status": "scored", "prediction": "pneumonia", "p_normal": 0.25, "p_heart_failure": 0.125, "p_pneumonia": 0.625,
        "logits": [0.0, 1.0, 2.0], "saliency_png": png, "saliency_peak": peak, "affine": vars(fit(*size)),
        "scored_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "manufacturer": "=cmd|'/c calc'!A0",
    } | values  # fmt: skip


def make_scored(
    root: Path,
    sources: dict[str, bytes],
    size: tuple[int, int] = (48, 40),
    predicts: tuple[Answer, ...] = BOTH,
    **values: Any,
) -> Run:
    """Return a finished run over files, each with a made-up answer."""
    archive = root / "archive"
    for name, data in sources.items():
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        (archive / name).write_bytes(data)
    plan = make_plan(list_archive(str(archive), Identities).table)
    sha = hashlib.sha256(table_bytes(plan)).hexdigest()
    spec = make_spec(rows=plan.num_rows, plan_sha256=sha, predicts=predicts)
    run = Run.create(LocalStore(str(root / "run")), spec, plan)
    rows = [only(predicts, answer(planned, size, **values)) for planned in plan.to_pylist()]
    run.commit(0, pa.Table.from_pylist(rows, schema=RESULT))
    run.finish(1.0, len(rows), "now")
    return run


def exported(run: Run, kind: Any, root: Path, **options: Any) -> Exported:
    return export_run(run, kind, LocalStore(str(root / "out")), **options)


def one(root: Path, ending: str) -> Path:
    (path,) = (root / "out").glob(f"*{ending}")
    return path


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def test_the_tables_hold_every_row(tmp_path: Path) -> None:
    run = make_finished(tmp_path)
    told: list[tuple[int, int]] = []
    assert exported(run, "csv", tmp_path, on_progress=lambda *now: told.append(now)) == Exported(written=2)
    rows = csv_rows(tmp_path / "out" / "results.csv")
    assert list(rows[0]) == SUMMARY.names
    assert [row["image_id"] for row in rows] == run.plan()["image_id"].to_pylist()
    assert {row["p_normal"] for row in rows} == {"0.5", ""}
    assert (tmp_path / "out" / "results.csv").read_bytes().count(b"\r\n") == len(rows) + 1
    assert told == [(128, 133), (133, 133)]
    studies = csv_rows(tmp_path / "out" / "studies.csv")
    assert list(studies[0]) == STUDIES.names
    assert len(studies) == len({row["study_id"] for row in rows})
    assert sum(int(row["images"]) for row in studies) == len(rows)


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_tag_is_a_formula(begin: str, tmp_path: Path) -> None:
    text = begin + 'cmd, "quoted"\r\n=1+1'
    run = make_scored(tmp_path, {"a.dcm": make_dicom(gradient())}, device_model=text, intensity_p1=-0.5)
    exported(run, "csv", tmp_path)
    (row,) = csv_rows(tmp_path / "out" / "results.csv")
    assert row["device_model"] == "'" + text.replace("=1+1", "'=1+1")
    assert row["manufacturer"].startswith("'=cmd")
    assert (row["intensity_p1"], row["scored_at"]) == ("-0.5", "2026-01-02T03:04:05.000000Z")


@pytest.mark.parametrize("text", ["a;=1+1", "a\t@x", "a\r+1", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff201", "\t=1"])
def test_no_cell_begins_a_formula_however_a_spreadsheet_parts_them(text: str, tmp_path: Path) -> None:
    run = make_scored(tmp_path, {"a.dcm": make_dicom(gradient())}, device_model=text)
    exported(run, "csv", tmp_path)
    (row,) = csv_rows(tmp_path / "out" / "results.csv")
    assert row["device_model"] != text
    assert not re.search(r"(^|[;\t\r\n])[=+\-@\uff1d\uff0b\uff0d\uff20]", row["device_model"])
    assert row["device_model"].replace("'", "") == text


def test_text_that_no_spreadsheet_computes_stays(tmp_path: Path) -> None:
    run = make_scored(tmp_path, {"a.dcm": make_dicom(gradient())}, device_model="GE; type-2 = 5@x", intensity_p1=-0.5)
    exported(run, "csv", tmp_path)
    (row,) = csv_rows(tmp_path / "out" / "results.csv")
    assert (row["device_model"], row["intensity_p1"]) == ("GE; type-2 = 5@x", "-0.5")


def test_paths_are_joined_only_on_request(tmp_path: Path) -> None:
    run = make_scored(tmp_path, {"b/Doe, Jane.dcm": make_dicom(gradient()), "a.dcm": make_dicom(gradient())})
    exported(run, "csv", tmp_path)
    assert "Doe" not in (tmp_path / "out" / "results.csv").read_text()
    exported(run, "csv", tmp_path, with_paths=True)
    rows = csv_rows(tmp_path / "out" / "results.csv")
    planned = dict(zip(*(run.plan()[name].to_pylist() for name in ("image_id", "uri")), strict=True))
    assert list(rows[0]) == ["uri", *SUMMARY.names]
    assert {row["image_id"]: row["uri"] for row in rows} == planned
    assert list_archive(str(tmp_path / "out" / "results.csv"), Identities).counts["files"] == 2, "it is a list"
    with pytest.raises(ConfigError, match="named by image_id"):
        exported(run, "png", tmp_path, with_paths=True)


def test_an_unfinished_run_gives_the_rows_it_has(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.commit(1, results(run.plan(), 1))
    exported(run, "csv", tmp_path)
    assert len(csv_rows(tmp_path / "out" / "results.csv")) == 5
    assert sum(int(row["images"]) for row in csv_rows(tmp_path / "out" / "studies.csv")) == 5


def test_an_overlay_has_the_sources_shape_and_warms_where_readers_look(tmp_path: Path) -> None:
    run = make_scored(tmp_path, {"a.dcm": make_dicom(gradient(200, 100))}, (200, 100))
    assert exported(run, "png", tmp_path) == Exported(written=1)
    path = one(tmp_path, ".png")
    assert path.stem == run.plan()["image_id"][0].as_py()
    with Image.open(path) as opened:
        assert not opened.info, "a PNG holds nothing but its pixels"
        pixels = np.asarray(opened, np.int16)
    image = pixels[:1152]
    assert image.shape == (1152, 576, 3)
    heat = image[..., 0] - image[..., 2]
    affine = fit(200, 100)
    y, x = affine.to_source(200, 150)
    assert heat[int(y / 200 * 1152), int(x / 100 * 576)] > 40
    assert abs(heat[1000:, 400:]).max() <= 2, "grey where nobody looks"
    assert (pixels[1152:].max(axis=2) > 200).sum() > 200, "a legend is to be read"


def test_a_map_that_says_nothing_colours_nothing() -> None:
    png, _ = saliency.encode(np.full((HEIGHT, WIDTH), 1 / (HEIGHT * WIDTH), np.float32))
    row = {"saliency_png": png, "affine": vars(fit(100, 80)), "prediction": "normal"}
    grey = np.tile(np.arange(80, dtype=np.uint8) * 3, (100, 1))
    drawn = draw_result(grey, row | dict.fromkeys([f"p_{name}" for name in CLASSES], 1 / 3), PIN)
    image = drawn[:100, 240:320]
    assert np.array_equal(image, np.repeat(grey[..., None], 3, axis=2))


HOSTILE = {
    "PatientName": "N" * 200,
    "PatientID": "7" * 80,
    "PatientBirthDate": "31.12.1999",
    "PatientSex": "unknown",
    "PatientAge": "sixty",
    "PatientWeight": "123456789012345678901",
    "StudyDate": "20230230",
    "StudyTime": "25:00",
    "AccessionNumber": "A-very-long-accession-number",
    "StudyDescription": "x\x00\x1b" + "y" * 300,
    "ReferringPhysicianName": "=====",
    "PatientIdentityRemoved": "YES",
    "TimezoneOffsetFromUTC": "+9999",
    "Laterality": "B",
    "PatientOrientation": "TOP\\LEFT",
    "BurnedInAnnotation": "MAYBE",
    "LossyImageCompression": "2",
    "SpecificCharacterSet": "ISO_IR 100",
}
CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "plain": ({"PatientName": "Doe^Jane", "PatientOrientation": "L\\F"}, {"PatientName": "Doe^Jane"}),
    "Latin 1": (
        {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen"},
        {"PatientName": "Müller^Jürgen", "SpecificCharacterSet": "ISO_IR 192"},
    ),
    "Japanese": (
        {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"},
        {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"},
    ),
    "Cyrillic": ({"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Дубль^Юлия"}, {"PatientName": "Дубль^Юлия"}),
    "an old date": ({"StudyDate": "1999.12.31", "StudyTime": "23:59:58"}, {"StudyDate": "19991231"}),
    "nothing known": (dict.fromkeys(("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber")), {}),
    "hostile": (HOSTILE, {"PatientName": "N" * 64, "PatientID": "", "StudyDate": "", "AccessionNumber": ""}),
    "computed": ({"Modality": "CR", "SOPClassUID": ComputedRadiographyImageStorage}, {}),
    "captured": ({"Modality": "OT", "SOPClassUID": SecondaryCaptureImageStorage, "Laterality": "L"}, {}),
    "de-identified": ({"PatientIdentityRemoved": "YES", "DeidentificationMethod": "by hand"}, {}),
    "JPEG 2000": ({"syntax": JPEG2000Lossless}, {}),
    "big endian": ({"syntax": ExplicitVRBigEndian, "PatientName": "Big^Endian"}, {"PatientName": "Big^Endian"}),
}


@pytest.mark.parametrize("name", CASES)
def test_objects_conform_and_keep_the_identity(name: str, tmp_path: Path) -> None:
    tags, wanted = CASES[name]
    data = make_dicom(gradient(), **{**UIDS, **tags})
    planned = {"shard": 0, "position": 0, "image_id": "a", "repeated_id": False, "subject_id": "b", "study_id": "c"}
    source, origin = read_source(data), pydicom.dcmread(io.BytesIO(data))
    report, capture = (DerivedObject(kind, make_spec(), answer(planned, (48, 40)), source) for kind in ("sr", "sc"))
    small = np.full((40, 60, 3), 99, np.uint8)
    for derived, written in ((report, report_bytes(report)), (capture, capture_bytes(capture, small))):
        path = tmp_path / f"{derived.kind}.dcm"
        path.write_bytes(written)
        found = pydicom.dcmread(path)
        assert {keyword: str(found[keyword].value or "") for keyword in wanted} == wanted
        assert found.StudyInstanceUID == origin.StudyInstanceUID
        assert found.SeriesInstanceUID not in (origin.SeriesInstanceUID, found.SOPInstanceUID)
        assert "FrameOfReferenceUID" not in found
        assert check_object(path) == []


def test_a_report_says_what_was_found_by_what_on_which_image(tmp_path: Path) -> None:
    run = make_scored(tmp_path, {"a.dcm": make_dicom(gradient(), **UIDS)})
    exported(run, "dicom-sr", tmp_path)
    report = pydicom.dcmread(one(tmp_path, ".sr.dcm"))
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    said = run_tool("dsrdump", "+Pc", "+Pl", one(tmp_path, ".sr.dcm"))
    for text in (
        'Probability of pneumonia")="0.625" (1,UCUM', 'Most likely class")=(233604007,SCT,"Pneumonia")',
        "(121007,DCM,\"Device\")", f"weights sha256 {PIN.weights_sha256}", "Research only, not for clinical use.",
        "2026-01-02 03:04:05",
    ):  # fmt: skip
        assert text in said
    source = pydicom.dcmread(tmp_path / "archive" / "a.dcm")
    (reference,) = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert not [one for one in report.iterall() if one.keyword in {"FrameOfReferenceUID", "GraphicData"}]


def test_a_capture_is_the_picture_without_invented_geometry(tmp_path: Path) -> None:
    run = make_scored(tmp_path, {"a.dcm": make_dicom(gradient(), PatientOrientation="R\\F", **UIDS)})
    exported(run, "dicom-sc", tmp_path)
    exported(run, "png", tmp_path)
    path = one(tmp_path, ".sc.dcm")
    capture = pydicom.dcmread(path)
    with Image.open(one(tmp_path, ".png")) as overlay:
        assert np.array_equal(capture.pixel_array, np.asarray(overlay))
    assert capture.PatientOrientation == ["R", "F"]
    assert capture.dir("PixelSpacing", "ImagePosition", "ImageOrientation") == []
    assert (capture.ConversionType, capture.BodyPartExamined) == ("WSD", "CHEST")
    assert "Laterality" not in capture
    assert "Research only" in capture.ImageComments
    run_tool("dcm2pnm", "+on", path, tmp_path / "drawn.png")
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert np.array_equal(np.asarray(drawn), capture.pixel_array)


def test_a_repeated_export_gives_the_same_bytes_and_a_series_a_study(tmp_path: Path) -> None:
    other = UIDS | {"StudyInstanceUID": "1.2.9"}
    sources = {
        "a.dcm": make_dicom(gradient(), SOPInstanceUID="1.2.3.1", **UIDS),
        "b.dcm": make_dicom(gradient(50, 50), SOPInstanceUID="1.2.3.2", **UIDS),
        "c.dcm": make_dicom(gradient(60, 50), SOPInstanceUID="1.2.3.3", **other),
    }
    run = make_scored(tmp_path, sources)
    outs = [LocalStore(str(tmp_path / name)) for name in ("one", "two")]
    for out in outs:
        export_run(run, "dicom-sr", out)
        export_run(run, "dicom-sc", out)
    names = [info.key for info in outs[0].list()]
    assert len(names) == 8
    assert all(outs[0].get(name) == outs[1].get(name) for name in names)
    objects = [pydicom.dcmread(tmp_path / "one" / name) for name in names if name.endswith(".dcm")]
    assert len({one.SOPInstanceUID for one in objects}) == 6
    assert len({(one.Modality, one.SeriesInstanceUID) for one in objects}) == 4, "a kind and a study have one series"


def test_real_radiographs_give_valid_objects(tmp_path: Path) -> None:
    sources = {name: (SAMPLES / name).read_bytes() for name in ("RG1_J2KI.dcm", "RG1_UNCR.dcm")}
    run = make_scored(tmp_path, sources, (1955, 1841))
    for kind in ("dicom-sr", "dicom-sc"):
        assert exported(run, kind, tmp_path) == Exported(written=2)
    for path in (tmp_path / "out").glob("*.dcm"):
        assert check_object(path) == []


def test_what_can_not_be_exported_is_counted(tmp_path: Path) -> None:
    sources = {
        "a.dcm": make_dicom(gradient(), **UIDS),
        "b.dcm": make_dicom(gradient(), **UIDS),
        "c.dcm": make_dicom(gradient(), **UIDS),
        "d.png": picture(gradient(64, 64, 8).astype(np.uint8), "PNG"),
        "e.dcm": make_dicom(gradient(), SeriesInstanceUID="1.2", StudyInstanceUID="../../etc"),
        "f.dcm": make_dicom(gradient(), **UIDS, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33"),
    }
    run = make_scored(tmp_path, sources)
    (tmp_path / "archive" / "b.dcm").unlink()
    (tmp_path / "archive" / "c.dcm").write_bytes(b"other")
    left = {"changed": 1, "missing": 1, "no_identity": 2, "not_dicom": 1}
    found = exported(run, "dicom-sr", tmp_path)
    assert found == Exported(written=1, left_out=left)
    assert found.lost == {"changed": 1, "missing": 1}
    assert exported(run, "png", tmp_path) == Exported(written=4, left_out={"changed": 1, "missing": 1})


def test_a_stopped_export_goes_on(tmp_path: Path) -> None:
    run = make_scored(tmp_path, {f"{name}.dcm": make_dicom(gradient(), **UIDS) for name in "abc"})
    assert exported(run, "dicom-sr", tmp_path, limit=2) == Exported(written=2)
    assert exported(run, "dicom-sr", tmp_path) == Exported(written=1, there=2)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        exported(run, "png", tmp_path, stop=stop)


def test_another_versions_files_are_written_again(tmp_path: Path) -> None:
    run = make_scored(tmp_path, {"a.dcm": make_dicom(gradient(), **UIDS)})
    exported(run, "dicom-sr", tmp_path)
    mark = tmp_path / "out" / "export-dicom-sr.json"
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"code_version": "0.0.0"}))
    assert exported(run, "dicom-sr", tmp_path) == Exported(written=1)


@pytest.mark.parametrize("found", ['{"run_id": "another"}', "[]", "no JSON"])
def test_a_folder_holds_one_runs_export(found: str, tmp_path: Path) -> None:
    run = make_scored(tmp_path, {"a.dcm": make_dicom(gradient())})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "export-csv.json").write_text(found)
    with pytest.raises(ConfigError, match="another run"):
        exported(run, "csv", tmp_path)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("csv", {"limit": 1}), ("csv", {"only": "normal"}), ("xlsx", {"limit": 1}), ("png", {"only": "x"})],
)
def test_options_that_do_not_fit_are_refused(kind: Any, options: dict[str, Any], tmp_path: Path) -> None:
    run = make_scored(tmp_path, {"a.dcm": make_dicom(gradient())})
    with pytest.raises(ConfigError):
        exported(run, kind, tmp_path, **options)
    assert not (tmp_path / "out").exists()


def test_only_one_class_is_drawn(tmp_path: Path) -> None:
    run = make_scored(tmp_path, {"a.dcm": make_dicom(gradient())})
    assert exported(run, "png", tmp_path, only="normal") == Exported()
    assert exported(run, "png", tmp_path, only="pneumonia") == Exported(written=1)


def test_an_outage_ends_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(_row: dict[str, Any]) -> bytes:
        raise StoreUnavailable("S3 is down.")

    monkeypatch.setattr("cxrgaze_ray.export.driver.fetch_listed", down)
    run = make_scored(tmp_path, {"a.dcm": make_dicom(gradient())})
    with pytest.raises(EnvironmentFault):
        exported(run, "png", tmp_path)


def test_the_identity_is_in_the_object_and_nowhere_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    tags = dict.fromkeys(("PatientName", "PatientID", "AccessionNumber", "StudyDescription"), CANARY)
    run = make_scored(tmp_path, {f"{CANARY}.dcm": make_dicom(gradient(), **tags, **UIDS)})
    with caplog.at_level(logging.DEBUG):
        for kind in ("csv", "png", "dicom-sr", "dicom-sc"):
            exported(run, kind, tmp_path)
    for path in (tmp_path / "out").iterdir():
        assert CANARY not in path.name
        assert (CANARY.encode() in path.read_bytes()) == path.name.endswith(".dcm"), path.name
    assert CANARY not in caplog.text
    assert not len(recwarn)
    source = read_source((tmp_path / "archive" / f"{CANARY}.dcm").read_bytes())
    assert CANARY not in repr(source)


@pytest.mark.parametrize("data", [b"", b"DICM", make_dicom(gradient()), make_dicom(gradient(), **UIDS)[:300]])
def test_a_broken_header_has_no_identity(data: bytes) -> None:
    with pytest.raises(NoIdentity):
        read_source(data)


@pytest.mark.parametrize(
    ("mend", "value", "wanted"),
    [
        (repair.person, "Ä" * 200, "Ä" * 64),  # characters, not bytes: PS3.5 6.2
        (repair.person, "A^B^C^D^E^F=x", "A^B^C^D^E=x"),
        (repair.person, "^^=", None),
        (repair.person, "\ufffd^x", None),
        (repair.identifier, "12\x0034", "12 34"),
        (repair.identifier, "7" * 65, None),
        (repair.short_identifier, "7" * 17, None),
        (repair.description, "y" * 99, "y" * 64),
        (repair.day, "20240229", "20240229"),
        (repair.day, "2023.02.29", None),
        (repair.day, "1999-1-31", None),
        (repair.time, "12:30", "1230"),
        (repair.time, "126000", None),
        (repair.age, "65y", None),
        (repair.age, "065y", "065Y"),
        (repair.number, "1e400x", None),
        (repair.sex, "f", "F"),
        (repair.uid, "1.2.03", None),
        (repair.uid, "1.2.0.3\0", "1.2.0.3"),
        (repair.uid, "1" * 65, None),
        (repair.zone, "+0530", "+0530"),
        (repair.zone, "+1500", None),
        (repair.zone, "0530", None),
    ],
)
def test_values_are_repaired_or_left_out(mend: repair.Repair, value: str, wanted: str | None) -> None:
    assert mend(value) == wanted


def test_names_and_uids_are_safe() -> None:
    row = {"image_id": "abc-1", "repeated_id": False, "shard": 1, "position": 2}
    assert file_name(row) == "abc-1"
    assert file_name(row | {"repeated_id": True}) == "abc-1-1-2"
    for bad in ("../up", "a/b", ".hidden", "x" * 200, "ü", ""):
        name = file_name(row | {"image_id": bad})
        assert name.replace("-", "").isalnum(), name
        assert len(name) < 60
    assert make_uid("a", "bc") != make_uid("ab", "c")
    assert make_uid("a").is_valid
    assert len(make_uid("a")) <= 44


def test_a_decoder_draws_pictures_and_refuses_what_is_none() -> None:
    with Decoder() as decoder:
        data = make_dicom(gradient(300, 200), PhotometricInterpretation="MONOCHROME1")
        drawn = decoder.picture(data, 600, 1000)
        assert (str(drawn.dtype), drawn.shape) == ("uint8", (600, 400))
        assert drawn[0, 0] > drawn[-1, -1], "inverted once"
        assert decoder.decode(data).pixels.shape == (HEIGHT, WIDTH)
        with pytest.raises(RadiographError):
            decoder.picture(make_dicom(np.zeros((40, 40), np.uint16)), 600, 1000)


@pytest.mark.parametrize("kind", ["png", "dicom-sr", "dicom-sc"])
@pytest.mark.parametrize("gone", [1, 2])
def test_the_command_fails_if_sources_are_gone(kind: str, gone: int, cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    run = make_scored(tmp_path, {f"{name}.dcm": make_dicom(gradient(), **UIDS) for name in "ab"})
    for name in "ab"[:gone]:
        (tmp_path / "archive" / f"{name}.dcm").rename(tmp_path / f"{name}.dcm")
    command = ["runs", "export", run.store.uri, "--to", kind, "--out", tmp_path / "out"]
    ended = cxrgaze(*command)
    assert ended.code == 2
    written = {1: "1 file", 0: "0 files"}[2 - gone]
    assert ended.out.splitlines() == [f"{written} written to {tmp_path}/out.", f"{gone} sources are gone."]
    assert f"{gone} of 2 files were not written: {gone} gone." in ended.err
    assert len([*(tmp_path / "out").glob("*.*m*")]) + len([*(tmp_path / "out").glob("*.png")]) == 2 - gone
    for name in "ab"[:gone]:
        (tmp_path / f"{name}.dcm").rename(tmp_path / "archive" / f"{name}.dcm")
    again = cxrgaze(*command, "--json")
    assert (again.code, again.json["written"], again.json["there"]) == (0, gone, 2 - gone), "the hint is true"


def test_the_command_exports_and_says_what_it_left_out(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from cxrgaze_ray.cli import app

    run = make_scored(tmp_path, {"d.png": picture(gradient(64, 64, 8).astype(np.uint8), "PNG")}, (64, 64))
    command = ["runs", "export", run.store.uri, "--out", str(tmp_path / "out"), "--to"]
    result = CliRunner().invoke(app, [*command, "dicom-sr"])
    assert (result.exit_code, result.stdout.splitlines()[1]) == (
        0,
        "1 sources are not DICOM files, and so belong to no study.",
    )
    result = CliRunner().invoke(app, [*command, "png", "--json"])
    assert json.loads(result.stdout)["written"] == 1
    assert CliRunner().invoke(app, [*command, "xml"]).exit_code == 2
    shutil.rmtree(tmp_path / "run")


REFUSED = [
    (("classes",), "png", "An overlay shows predicted gaze", "csv or dicom-sr"),
    (("classes",), "dicom-sc", "A Secondary Capture shows predicted gaze", "csv or dicom-sr"),
    (("saliency",), "dicom-sr", "A Structured Report holds probabilities", "csv, png or dicom-sc"),
]


@pytest.mark.parametrize(("predicts", "kind", "what", "hint"), REFUSED)
def test_what_a_file_cannot_do_without_is_said_before_one_is_written(
    cxrgaze: Cxrgaze, tmp_path: Path, predicts: tuple[Answer, ...], kind: str, what: str, hint: str
) -> None:
    run = make_scored(tmp_path, {"a.dcm": make_dicom(gradient(), **UIDS)}, predicts=predicts)
    ended = cxrgaze("runs", "export", run.store.uri, "--to", kind, "--out", str(tmp_path / "out"))
    assert ended.code == 2
    assert f"{what}, and m v0001 predicts {predicts[0]} only. Export {hint}." in ended.err
    assert not (tmp_path / "out").exists()


def test_a_model_without_classes_has_pictures_and_captures_and_one_without_saliency_reports(tmp_path: Path) -> None:
    source = {"a.dcm": make_dicom(gradient(), **UIDS)}
    gaze = make_scored(tmp_path / "gaze", source, predicts=("saliency",))
    assert exported(gaze, "png", tmp_path) == Exported(written=1)
    assert exported(gaze, "dicom-sc", tmp_path) == Exported(written=1)
    capture = one(tmp_path, ".sc.dcm")
    assert "The model predicts no classes" in pydicom.dcmread(capture).ImageComments
    assert check_object(capture) == []
    with pytest.raises(UserError, match="Only images of class normal were asked for, and m v0001 predicts saliency"):
        exported(gaze, "png", tmp_path, only="normal")
    classes = make_scored(tmp_path / "classes", source, predicts=("classes",))
    assert exported(classes, "dicom-sr", tmp_path) == Exported(written=1)


@pytest.mark.parametrize("predicts", ONE, ids=" ".join)
def test_the_tables_of_one_answer_have_empty_columns_and_the_command_says_so(
    cxrgaze: Cxrgaze, tmp_path: Path, predicts: tuple[Answer, ...]
) -> None:
    run = make_finished(tmp_path, predicts=predicts)
    ended = cxrgaze("runs", "export", run.store.uri, "--to", "csv", "--out", str(tmp_path / "out"))
    assert f"predicts {predicts[0]} only: the columns of the rest are empty." in ended.err
    rows = csv_rows(tmp_path / "out" / "results.csv")
    assert list(rows[0]) == SUMMARY.names
    filled = {name for answer in ANSWERS.values() for name in answer if name in rows[0] and rows[0][name]}
    assert filled == {name for name in ANSWERS[predicts[0]] if name in SUMMARY.names}
