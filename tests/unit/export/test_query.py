"""SQL over a run, and the lines with which other programs read one."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.export.query import query_run
from cxrgaze_ray.schemas import STUDIES, SUMMARY
from cxrgaze_ray.scoring.runs import Run
from tests.command import Cxrgaze
from tests.dicom_files import gradient, make_dicom
from tests.unit.export.test_export import make_scored
from tests.unit.scoring.test_runs import make_finished, make_run, results


def asked(run: Run, sql: str, **options: Any) -> list[dict[str, Any]]:
    with query_run(run, sql, **options) as (_, tables):
        return [row for table in tables for row in table.to_pylist()]


def test_every_documented_column_can_be_asked_for(tmp_path: Path) -> None:
    run = make_finished(tmp_path)
    for table, schema in {"results": SUMMARY, "studies": STUDIES}.items():
        assert [row["column_name"] for row in asked(run, f"describe {table}")] == schema.names
    (row,) = asked(run, "select count(*) n, count(distinct study_id) s, max(p_normal) p from results")
    assert row == {"n": 133, "s": len(asked(run, "from studies")), "p": 0.5}
    joined = "select count(*) n from results r join studies s using (study_id) join results again using (image_id)"
    assert asked(run, joined)[0]["n"] > 100


def test_an_unfinished_run_is_asked_for_the_rows_it_has(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.commit(1, results(run.plan(), 1))
    assert asked(run, "select count(*) n from results") == [{"n": 5}]
    assert asked(run, "select sum(images) n from studies")[0]["n"] == 5


def test_paths_are_there_only_on_request(tmp_path: Path) -> None:
    run = make_scored(tmp_path, {"Doe, Jane.dcm": make_dicom(gradient())})
    with pytest.raises(UserError, match="uri"):
        asked(run, "select uri from results")
    (row,) = asked(run, "select uri from results", with_paths=True)
    assert row["uri"].endswith("/Doe, Jane.dcm")


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("select nothing from results", "nothing"),
        ("selekt 1", "syntax error"),
        ("select 1; select 2", "one SELECT"),
        ("", "one SELECT"),
        ("copy results to '{root}/stolen.csv'", "one SELECT"),
        ("attach '{root}/other.db'", "one SELECT"),
        ("set enable_external_access = true", "one SELECT"),
        ("install httpfs", "one SELECT"),
        ("select * from read_text('{root}/secret')", "disabled|not allowed|[Pp]ermission"),
        ("select * from '{root}/secret.parquet'", "disabled|not allowed|[Pp]ermission"),
        ("select * from read_csv('https://example.org/x.csv')", "disabled|not allowed|[Pp]ermission|httpfs"),
        ("select * from glob('{root}/*')", "disabled|not allowed|[Pp]ermission"),
        ("select * from hidden", "hidden"),
    ],
)
def test_a_query_reads_the_run_and_nothing_else(sql: str, told: str, tmp_path: Path) -> None:
    hidden = results  # a Python value that DuckDB would find by its name, if it were let
    assert hidden is not None
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret.parquet").write_text("secret")
    with pytest.raises(UserError, match=told):
        asked(make_finished(tmp_path, 5), sql.format(root=tmp_path))
    assert not (tmp_path / "stolen.csv").exists()


def test_no_copy_of_the_run_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "somebody's scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    run = make_finished(tmp_path, 5)
    asked(run, "from results")
    with pytest.raises(UserError):
        asked(run, "select sqrt(x) from results")
    assert list(scratch.iterdir()) == []


def test_the_answer_is_a_table_json_or_csv(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    run = make_finished(tmp_path)
    words = ("runs", "query", run.store.uri, "select status, count(*) as n from results group by 1 order by n desc")
    table = cxrgaze(*words)
    assert table.out.splitlines()[0].split() == ["status", "n"]
    answer = cxrgaze(*words, "--json").json
    assert answer["columns"] == ["status", "n"]
    assert sum(row["n"] for row in answer["rows"]) == 133
    rows = list(csv.DictReader(io.StringIO(cxrgaze(*words, "--csv").out, newline="")))
    assert [(row["status"], int(row["n"])) for row in rows] == [(row["status"], row["n"]) for row in answer["rows"]]
    assert cxrgaze(*words, "--csv", "--json").code == 2


def test_numbers_are_short_for_people_and_whole_for_programs(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    words = ("runs", "query", make_finished(tmp_path, 3).store.uri, "select 1.0::double / 3 as third")
    assert cxrgaze(*words).out.split() == ["third", "0.333333"]
    assert cxrgaze(*words, "--csv").out.split() == ["third", "0.3333333333333333"]


def test_long_answers_are_cut_on_a_terminal_only(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    run = make_finished(tmp_path)
    ended = cxrgaze("runs", "query", run.store.uri, "select image_id from results", "--limit", "3")
    assert len(ended.out.splitlines()) == 4
    assert "130 more rows" in ended.err
    assert len(cxrgaze("runs", "query", run.store.uri, "select image_id from results", "--csv").out.splitlines()) == 134


def test_whatever_a_query_gives_is_a_safe_cell(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    sql = (
        "select '=1+1' a, '=1+1'::enum('=1+1') b, ['=1+1'] c, {'x': 1} d, -0.5 e, date '2026-01-02' f, null g, "
        "sum(1) h, '=1'::blob i, interval 1 day j"
    )
    out = cxrgaze("runs", "query", make_finished(tmp_path, 5).store.uri, sql, "--csv").out
    (row,) = csv.DictReader(io.StringIO(out, newline=""))
    assert (row["a"], row["b"], row["e"], row["f"], row["g"], row["h"]) == (
        "'=1+1", "'=1+1", "-0.5", "2026-01-02", "", "1",
    )  # fmt: skip
    assert [row[name][0] for name in "cdi"] == ["[", "{", "b"]
    assert row["j"]
