"""A run as an Excel workbook: every value as it is, and nothing that computes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.utils.escape import unescape

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.export import workbook
from cxrgaze_ray.export.workbook import check_rows
from cxrgaze_ray.schemas import STUDIES, SUMMARY
from tests.command import Cxrgaze
from tests.dicom_files import gradient, make_dicom
from tests.unit.export.test_export import UIDS, exported, make_scored
from tests.unit.scoring.test_runs import make_finished


def sheet(root: Path, name: str) -> list[dict[str, Any]]:
    book = openpyxl.load_workbook(root / "out" / "results.xlsx")
    assert book.sheetnames == ["results", "studies"]
    head, *rows = book[name].iter_rows(values_only=True)
    return [dict(zip(map(str, head), row, strict=True)) for row in rows]


def test_the_workbook_holds_every_row_and_every_study(tmp_path: Path) -> None:
    run = make_finished(tmp_path)
    told: list[tuple[int, int]] = []
    assert exported(run, "xlsx", tmp_path, on_progress=lambda *now: told.append(now)).written == 1
    rows, studies = sheet(tmp_path, "results"), sheet(tmp_path, "studies")
    assert list(rows[0]) == SUMMARY.names
    assert [row["image_id"] for row in rows] == run.plan()["image_id"].to_pylist()
    assert list(studies[0]) == STUDIES.names
    assert sum(study["images"] for study in studies) == len(rows)
    assert told[-1] == (133, 133)


def test_values_keep_their_types_and_no_tag_is_a_formula(tmp_path: Path) -> None:
    told: dict[str, Any] = {
        "device_model": "@sum\x0b(1)",
        "intensity_p1": 0.1,
        "intensity_mean": float("nan"),
        "bits_stored": 12,
    }
    run = make_scored(tmp_path, {"a.dcm": make_dicom(gradient(), **UIDS)}, **told)
    exported(run, "xlsx", tmp_path)
    cells = next(openpyxl.load_workbook(tmp_path / "out" / "results.xlsx")["results"].iter_rows(min_row=2))
    row = dict(zip(SUMMARY.names, cells, strict=True))
    assert (row["manufacturer"].value, row["manufacturer"].data_type) == ("=cmd|'/c calc'!A0", "s")
    assert unescape(row["device_model"].value) == "@sum\x0b(1)"
    assert (row["intensity_p1"].value, row["p_pneumonia"].value, row["bits_stored"].value) == (0.1, 0.625, 12)
    assert (row["repeated_id"].value, row["reason_code"].value) == (False, None)
    assert row["intensity_mean"].value == "nan"
    assert row["scored_at"].value == datetime(2026, 1, 2, 3, 4, 5)
    assert row["scored_at"].is_date


def test_the_same_run_gives_the_same_bytes_and_paths_only_on_request(tmp_path: Path) -> None:
    run = make_scored(tmp_path, {"Doe, Jane.dcm": make_dicom(gradient())})
    exported(run, "xlsx", tmp_path)
    first = (tmp_path / "out" / "results.xlsx").read_bytes()
    assert "uri" not in sheet(tmp_path, "results")[0]
    exported(run, "xlsx", tmp_path)
    assert (tmp_path / "out" / "results.xlsx").read_bytes() == first
    exported(run, "xlsx", tmp_path, with_paths=True)
    (row,) = sheet(tmp_path, "results")
    assert list(row) == ["uri", *SUMMARY.names]
    assert row["uri"].endswith("/Doe, Jane.dcm")


def test_more_rows_than_a_sheet_holds_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_rows(1_048_575)
    with pytest.raises(UserError, match="has 1048576 rows, and an Excel sheet holds 1048575"):
        check_rows(1_048_576)
    monkeypatch.setattr(workbook, "MOST_ROWS", 5)
    with pytest.raises(UserError, match="has 5 rows"):
        exported(make_finished(tmp_path, 5), "xlsx", tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_left_out(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    run = make_finished(tmp_path, 5)
    ended = cxrgaze("runs", "export", run.store.uri, "--to", "xlsx", "--out", tmp_path / "out")
    assert ended.code == 0
    assert f"1 file written to {tmp_path}/out." in ended.out
    assert "--with-paths adds them" in ended.err
