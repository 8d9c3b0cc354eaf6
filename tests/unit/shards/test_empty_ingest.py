"""An ingest that would make a store of nothing says so, and leaves nothing in the way of the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.shards import ingest
from cxrgaze_ray.storage import open_store

SHEET = "dicom_id,patient_id,study_id,Normal,CHF,pneumonia\n{name},1,1,1,0,0\n"


class Begun(Exception):
    pass


def begin() -> None:
    raise Begun


def test_tables_of_other_images_are_told_and_the_mended_ingest_takes_the_same_place(tmp_path: Path) -> None:
    (archive := tmp_path / "archive").mkdir()
    (archive / "a.jpg").write_bytes(b"")
    (archive / "list.csv").write_text("path,image_id,subject_id\na.jpg,scan-1,1\n")
    (gaze := tmp_path / "gaze").mkdir()
    (gaze / "eye_gaze.csv").write_text("DICOM_ID,X_ORIGINAL,Y_ORIGINAL,CNT\n")
    (gaze / "master_sheet.csv").write_text(SHEET.format(name="scan-2"))
    out = tmp_path / "store"
    with pytest.raises(UserError, match="None of the archive's 1 files has a label or gaze"):
        ingest(str(archive / "list.csv"), str(gaze), str(out), connect=begin)  # type: ignore[arg-type]
    assert not out.is_dir() or not list(out.iterdir())
    (gaze / "master_sheet.csv").write_text(SHEET.format(name="scan-1"))
    with pytest.raises(Begun):  # the plan is made, and nobody says that another store is there
        ingest(str(archive / "list.csv"), str(gaze), str(out), connect=begin)  # type: ignore[arg-type]
    assert open_store(str(out)).exists("plan.json")
