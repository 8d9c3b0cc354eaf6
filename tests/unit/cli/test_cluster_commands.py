"""What the commands of a cluster say, and how they end, where no cluster is needed to know."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.cluster.processes import Leader
from cxrgaze_ray.cluster.standing import Place, Standing
from tests.command import Cxrgaze
from tests.dashboard_here import NODE, TOKEN, DashboardHere, dashboard_here


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def here() -> Iterator[DashboardHere]:
    with dashboard_here() as dashboard:
        yield dashboard


@pytest.fixture
def standing(here: DashboardHere, tmp_path: Path) -> Standing:
    """Leave the record of a head that is up: its first process is this one."""
    place = Place.of_this_machine()
    place.folder.mkdir(parents=True)
    place.token_file.write_text(TOKEN)
    place.token_file.chmod(0o600)
    found = Standing(
        role="head", address="127.0.0.1:6379", dashboard=here.url, host="127.0.0.1", metrics_port=9467,
        folder=tmp_path / "cxrgaze-x", token_file=place.token_file, own_token=True, leader=Leader.of(os.getpid()),
        ready=True,
    )  # fmt: skip
    place.write(found)
    return found


def gone(standing: Standing) -> None:
    assert standing.leader is not None
    leader = standing.leader.model_copy(update={"boot": "before"})
    Place.of_this_machine().write(standing.model_copy(update={"leader": leader}))


def test_without_a_cluster_each_says_so_in_one_line(cxrgaze: Cxrgaze) -> None:
    for words in (["cluster", "status"], ["submit", "attach", "score-1"], ["submit", "cancel", "score-1"]):
        ended = cxrgaze(*words)
        assert (ended.code, ended.out, ended.err.count("\n")) == (4, "", 1)
        assert "No cluster is up on this machine, and none is named. Start one: cxrgaze cluster up" in ended.err
    ended = cxrgaze("cluster", "down")
    assert (ended.code, ended.err.count("\n")) == (2, 1)


def test_status_shows_nodes_jobs_use_and_versions(cxrgaze: Cxrgaze, here: DashboardHere, standing: Standing) -> None:
    jobs = [{"submission_id": "score-1", "status": "FAILED", "driver_exit_code": 2, "start_time": 0, "end_time": 5000}]
    here.answers["/api/jobs/"] = jobs
    ended = cxrgaze("cluster", "status")
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "     node  role  state  CPUs  GPUs  memory  object store  cxrgaze",
        "127.0.0.1  head  alive     4     0  2.0 GB      600.0 MB    0.1.0",
        "job      state   exit code  began                      took",
        "score-1  failed          2  1970-01-01T00:00:00+00:00   5 s",
    ]
    assert "In use: 1 of 4 CPUs." in ended.err
    assert "Jobs: 1 failed. Ray 2.60.0" in ended.err
    told = cxrgaze("cluster", "status", "--json").json
    assert told["usage"]["CPU"] == {"used": 1.0, "total": 4.0}
    assert told["jobs"][0] == {
        "job": "score-1", "status": "FAILED", "exit_code": 2, "began": "1970-01-01T00:00:00+00:00", "seconds": 5.0,
    }  # fmt: skip
    assert TOKEN not in json.dumps(told) + ended.out + ended.err


def test_status_warns_of_another_version(cxrgaze: Cxrgaze, here: DashboardHere, standing: Standing) -> None:
    other: dict[str, Any] = NODE | {"labels": {"cxrgaze": "9.9.9"}}
    here.answers["/api/v0/nodes?detail=1"] = {"data": {"result": {"result": [NODE, other]}}}
    assert "Warning: nodes have cxrgaze 9.9.9, and this is 0.1.0." in cxrgaze("cluster", "status").err


def test_a_cluster_without_a_live_node_is_no_success(cxrgaze: Cxrgaze, here: DashboardHere, standing: Standing) -> None:
    here.answers["/api/v0/nodes?detail=1"] = {"data": {"result": {"result": [NODE | {"state": "DEAD"}]}}}
    assert cxrgaze("cluster", "status").code == 4


def test_a_head_that_is_busy_starting_is_told_from_none(
    cxrgaze: Cxrgaze, here: DashboardHere, standing: Standing
) -> None:
    Place.of_this_machine().write(standing.model_copy(update={"dashboard": "http://127.0.0.1:1"}))
    ended = cxrgaze("cluster", "status")
    assert ended.code == 4
    assert "Try again in a moment, or look at its log" in ended.err


def test_a_second_up_starts_nothing(cxrgaze: Cxrgaze, standing: Standing) -> None:
    ended = cxrgaze("cluster", "up")
    assert ended.code == 0
    assert ended.out.startswith("Nothing was started: this machine's node of the cluster at 127.0.0.1:6379 is up")
    assert str(standing.discovery) in ended.out
    assert TOKEN not in ended.out + ended.err
    told = cxrgaze("cluster", "up", "--json").json
    assert (told["started"], told["dashboard"]) == (False, standing.dashboard)
    assert TOKEN not in json.dumps(told)


def test_what_a_kill_or_a_restart_left_is_told_and_cleared_up(cxrgaze: Cxrgaze, standing: Standing) -> None:
    gone(standing)
    for words in (["cluster", "status"], ["submit", "attach", "x"]):
        ended = cxrgaze(*words)
        assert ended.code == 4
        assert "has ended without `cluster down`" in ended.err
        assert "cxrgaze cluster up" in ended.err
    ended = cxrgaze("cluster", "down")
    assert ended.code == 0
    assert "0 of its processes were left" in ended.out
    assert not Place.of_this_machine().folder.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 is not an address of this machine"),
        (["--host", "192.0.2.254"], "192.0.2.254 is not an address of this machine"),
        (["--host", "head"], "head is no IP address"),
        (["--join", "127.0.0.1:6379"], "can't be joined"),
        (["--token-file", "none"], "can't be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_node_that_can_not_be_is_refused_before_it_starts(cxrgaze: Cxrgaze, words: list[str], told: str) -> None:
    ended = cxrgaze("cluster", "up", *words)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert told in ended.err


def test_a_port_that_another_program_has_is_told_with_its_option(cxrgaze: Cxrgaze, here: DashboardHere) -> None:
    ended = cxrgaze("cluster", "up", "--dashboard-port", here.url.rpartition(":")[2])
    assert ended.code == 2
    assert "Use another --dashboard-port" in ended.err


def test_another_cluster_is_asked_with_its_token(cxrgaze: Cxrgaze, here: DashboardHere, tmp_path: Path) -> None:
    ended = cxrgaze("cluster", "status", "--address", here.url)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "--token-file FILE" in ended.err
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    told = cxrgaze("cluster", "status", "--address", here.url, "--token-file", tmp_path / "token", "--json").json
    assert (told["address"], told["dashboard"]) == (None, here.url)
