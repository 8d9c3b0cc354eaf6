"""An analyst finds the files behind rows: which are pneumonia, which failed and why."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pytest

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.manifest import list_archive
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.schemas import REASON_HELP, RESULT, Reason
from cxrgaze_ray.scoring.runs import Run, files_of, make_plan, uris_of
from cxrgaze_ray.storage import LocalStore
from tests.command import Cxrgaze
from tests.unit.scoring.test_runs import MADE_WITH, make_finished, make_run, make_spec, results

HOSTILE = "Doe [bold]Jane\x1b[2J\u202e.dcm"
ROWS: dict[str, dict[str, Any]] = {
    "a.dcm": {"prediction": "pneumonia", "p_pneumonia": 0.5, "p_normal": 0.3, "p_heart_failure": 0.2},
    "b/c.dcm": {"prediction": "pneumonia", "p_pneumonia": 0.9, "p_normal": 0.1, "p_heart_failure": 0.0},
    "d.dcm": {"prediction": "normal", "p_pneumonia": 0.1, "p_normal": 0.7, "p_heart_failure": 0.2},
    HOSTILE: {"status": "failed", "reason_code": "truncated", "detail": "Cut."},
    "lateral.dcm": {"status": "skipped", "reason_code": "lateral_view", "detail": "A lateral."},
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a finished run of files with telling names."""
    archive = tmp_path / "archive"
    for name in ROWS:
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        (archive / name).write_bytes(b"bytes")
    plan = make_plan(list_archive(str(archive), Identities).table)
    made = Run.create(LocalStore(str(tmp_path / "run")), make_spec(rows=plan.num_rows), plan)
    rows = [
        MADE_WITH | {"shard": 0, "position": one["position"], "image_id": one["image_id"], "status": "scored"} | said
        for one in plan.to_pylist()
        for name, said in ROWS.items()
        if one["uri"] == str(archive / name)
    ]
    made.commit(0, pa.Table.from_pylist(rows, schema=RESULT))
    made.finish(1.0, len(rows), "now")
    return made


def names(run: Run, kind: str) -> list[str]:
    root = Path(run.store.uri).parent / "archive"
    return [str(Path(uri).relative_to(root)) for uri in files_of(run, kind)["uri"].to_pylist()]


def test_files_are_found_by_class_status_and_reason(run: Run) -> None:
    assert names(run, "pneumonia") == ["b/c.dcm", "a.dcm"], "the surest first"
    assert names(run, "heart_failure") == []
    assert names(run, "failed") == names(run, "truncated") == [HOSTILE]
    assert names(run, "skipped") == names(run, "lateral_view") == ["lateral.dcm"]
    assert sorted(names(run, "scored")) == ["a.dcm", "b/c.dcm", "d.dcm"]
    with pytest.raises(ConfigError, match="no class, status or reason Pneumonia") as told:
        files_of(run, "Pneumonia")
    assert "pneumonia" in told.value.hint


def test_every_row_finds_its_place_whatever_its_shard(tmp_path: Path) -> None:
    run = make_finished(tmp_path)
    plan, rows = run.plan(), run.summary()
    backwards = rows.take(pa.array(range(rows.num_rows - 1, -1, -1)))
    assert uris_of(backwards, plan).to_pylist() == plan["uri"].to_pylist()[::-1]


def test_failed_files_are_listed_with_their_reasons(cxrgaze: Cxrgaze, run: Run) -> None:
    ended = cxrgaze("runs", "show", run.store.uri, "--failed")
    (line,) = ended.out.splitlines()
    assert ended.code == 0
    assert line.startswith("truncated  ")
    assert "archive/Doe [bold]Jane" in line, "no markup"
    assert not {"\x1b", "\u202e"} & set(line), "nothing steers the terminal"
    assert "1 of 5 files: failed." in ended.err
    assert f"truncated: {REASON_HELP[Reason.TRUNCATED]}" in ended.err


def test_files_of_a_class_are_listed_with_their_chance(cxrgaze: Cxrgaze, run: Run) -> None:
    ended = cxrgaze("runs", "show", run.store.uri, "--only", "pneumonia")
    first, second = ended.out.splitlines()
    assert (ended.code, first.split()[:2], second.split()[:2]) == (0, ["pneumonia", "90.0%"], ["pneumonia", "50.0%"])
    assert first.endswith("archive/b/c.dcm")
    assert "2 of 5 files: pneumonia." in ended.err
    limited = cxrgaze("runs", "show", run.store.uri, "--only", "pneumonia", "--limit", 1)
    assert limited.out.splitlines() == [first]
    assert "2 of 5 files: pneumonia, of which the first 1 follow." in limited.err
    none = cxrgaze("runs", "show", run.store.uri, "--only", "heart_failure")
    assert (none.code, none.out) == (0, "")
    assert "No file of the run is heart_failure." in none.err


def test_a_machine_gets_the_same_as_json(cxrgaze: Cxrgaze, run: Run) -> None:
    told = cxrgaze("runs", "show", run.store.uri, "--failed", "--json").json
    assert (told["only"], told["count"]) == ("failed", 1)
    (file,) = told["files"]
    assert file["uri"].endswith(HOSTILE)
    assert (file["reason_code"], file["detail"], file["p_normal"]) == ("truncated", "Cut.", None)


@pytest.mark.parametrize(
    "options", [["--failed", "--only", "normal"], ["--limit", "1"], ["--only", "x"]], ids=["both", "limit", "unknown"]
)
def test_options_that_do_not_fit_are_told(cxrgaze: Cxrgaze, run: Run, options: list[str]) -> None:
    ended = cxrgaze("runs", "show", run.store.uri, *options)
    assert (ended.code, ended.out) == (2, "")
    assert "Traceback" not in ended.err


def test_an_unfinished_run_says_that_more_is_to_come(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.commit(1, results(run.plan(), 1))
    ended = cxrgaze("runs", "show", run.store.uri, "--failed")
    assert "The run is not finished: 1 shards are still to come." in ended.err


def test_nothing_else_shows_a_path(cxrgaze: Cxrgaze, run: Run, tmp_path: Path) -> None:
    for command in (["runs", "show", run.store.uri], ["runs", "show", run.store.uri, "--json"]):
        ended = cxrgaze(*command)
        assert "Doe" not in ended.out + ended.err
    ended = cxrgaze("runs", "export", run.store.uri, "--to", "csv", "--out", tmp_path / "out")
    assert "File names are left out: they may name patients. --with-paths adds them." in ended.err
    assert "Doe" not in (tmp_path / "out" / "results.csv").read_text()


def test_no_thread_of_arrow_reads_a_file_of_this_machine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    readers: set[str] = set()

    class Watched:
        def __init__(self, file: IO[bytes]) -> None:
            self._file = file

        def __enter__(self) -> Watched:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def __getattr__(self, name: str) -> Any:
            readers.add(threading.current_thread().name)
            return getattr(self._file, name)

    monkeypatch.setattr(LocalStore, "open_input", lambda store, key, info=None: Watched(store._opened(key)))
    assert sum(table.num_rows for table in run.tables()) == len(ROWS)
    assert readers == {threading.main_thread().name}, "one that still holds the file as Python ends aborts the command"
