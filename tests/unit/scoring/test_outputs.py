"""What can't be written is told before the work, not after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.lifecycle.prometheus import check_textfile
from cxrgaze_ray.lifecycle.retraining.data import check_outputs
from cxrgaze_ray.lifecycle.retraining.settings import NewData, RetrainSettings
from cxrgaze_ray.scoring import planning
from tests.command import Cxrgaze

COMMANDS = {
    "score": ["score", "archive", "--out", "FILE/runs"],
    "ingest": ["ingest", "archive", "--out", "FILE/store"],
    "demo": ["demo", "--dir", "FILE/demo"],
    "demo-loop": ["demo", "--loop", "--dir", "FILE/demo"],
    "archive-make": ["archive", "make", "FILE/phantoms"],
    "archive-list": ["archive", "list", "archive", "--out", "FILE/m.parquet"],
    "archive-look": ["archive", "look", "archive", "--out", "FILE/look.png"],
    "card": ["models", "card", "m", "--out", "FILE/card.html"],
    "monitor": ["monitor", "--baseline", "run", "--current", "run", "--out", "FILE/monitor.html"],
    "monitor-json": ["monitor", "--baseline", "run", "--current", "run", "--json-out", "FILE/monitor.json"],
    "report": ["runs", "report", "run", "--out", "FILE/report.html"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_below_a_file_is_refused_before_anything_else(
    command: str,
    cxrgaze: Cxrgaze,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("Ray is started")

    monkeypatch.setattr("cxrgaze_ray.cluster.connection.connect", never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_bytes(b"")
    ended = cxrgaze(*COMMANDS[command])
    assert (ended.code, ended.out) == (2, "")
    assert f"{tmp_path}/FILE is a file: nothing can be written below it." in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"], "nothing was written"


def test_a_textfile_is_tried_and_kept(tmp_path: Path) -> None:
    (tmp_path / "x.prom").write_text("up 1")
    check_textfile(str(tmp_path / "x.prom"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.prom"]
    with pytest.raises(UserError, match="can't be written"):
        check_textfile(str(tmp_path / "none" / "x.prom"))


def test_a_retraining_tries_its_page_and_its_new_stores(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    check_outputs(RetrainSettings(page=str(tmp_path / "page.html")))
    for values in ({"page": f"{tmp_path}/file/x.html"}, {"ingest": (NewData(archive="a", out=f"{tmp_path}/file/x"),)}):
        with pytest.raises(UserError, match="is a file"):
            check_outputs(RetrainSettings(**values))


def test_a_finished_run_is_found_though_nothing_can_be_written_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(planning, "check_writable", lambda store: tried.append(store.uri))
    planning.check_out(str(tmp_path))
    (tmp_path / "0123456789abcdef").mkdir()
    planning.check_out(str(tmp_path))
    assert tried == [str(tmp_path)]
