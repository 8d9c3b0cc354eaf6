"""A node is started with its token out of sight, found again, and ended whole; a start that fails leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxrgaze_ray.cluster.nodes import NodeSettings, clear_remains, end_node, start_node
from cxrgaze_ray.cluster.processes import Leader, members
from cxrgaze_ray.cluster.ray_internals import STAYS_LOCAL
from cxrgaze_ray.cluster.session_folder import SessionFolder
from cxrgaze_ray.cluster.standing import Place, Standing
from cxrgaze_ray.errors import ConfigError, EnvironmentFault
from tests.dashboard_here import TOKEN, DashboardHere, dashboard_here

CHILD = "import time; time.sleep(100)"
NODE = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {CHILD!r}]).wait()"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "state" / "cxrgaze" / "cluster" / "machine")


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    return file


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have folders made where a test can see that they are gone."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(
        "cxrgaze_ray.cluster.nodes.make_session_folder", lambda: SessionFolder(_made(folder / "cxrgaze-test"))
    )
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture
def here() -> Iterator[DashboardHere]:
    with dashboard_here() as dashboard:
        yield dashboard


@pytest.mark.parametrize(
    ("ports", "told"),
    [
        ({"port": 16379, "metrics_port": 18080}, "port and metrics_port must not lie in 10002 to 19999"),
        ({"dashboard_port": 6379}, "port, dashboard_port, metrics_port must differ"),
    ],
)
def test_ports_that_ray_would_refuse_are_told_before_it_starts(ports: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        NodeSettings.build(**ports)


def settings_of(here: DashboardHere) -> NodeSettings:
    return NodeSettings(dashboard_port=int(here.url.rpartition(":")[2]))


def run_instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(NodeSettings, "command", lambda *_: [sys.executable, "-c", code])


def start(settings: NodeSettings, token: Path, place: Place) -> Standing:
    return start_node(settings, token, place, own_token=False, client_port=1, dashboard=None)


def wait_for_child(standing: Standing) -> None:
    while len(members(standing.folder, "TMPDIR", standing.leader)) < 2:
        time.sleep(0.02)


def test_no_word_of_the_command_is_a_secret_and_all_is_on_loopback(
    token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of another cluster")
    monkeypatch.setenv("RAY_ADDRESS", "another:6379")
    settings, folder = NodeSettings(), SessionFolder(tmp_path)
    words, found = settings.command(folder, 5), settings.environment(folder, token)
    assert TOKEN not in " ".join(words) + " ".join(found.values())
    assert "--dashboard-host=127.0.0.1" in words
    assert not [word for word in words if word.startswith("--node-ip-address")]
    assert (found[STAYS_LOCAL], found["RAY_AUTH_MODE"], found["RAY_AUTH_TOKEN_PATH"]) == ("0", "token", str(token))
    assert not {"RAY_AUTH_TOKEN", "RAY_ADDRESS"} & found.keys()
    assert found["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent), "a job's python is this one"
    assert int(found["RAY_JOB_STOP_WAIT_TIME_S"]) > 3, "a run has time to commit its open shards"


def test_a_node_that_others_reach_names_its_address(token: Path, tmp_path: Path) -> None:
    settings, folder = NodeSettings(host="192.0.2.7", num_gpus=0), SessionFolder(tmp_path)
    words = settings.command(folder, 5)
    assert {"--node-ip-address=192.0.2.7", "--dashboard-host=192.0.2.7", "--num-gpus=0", "--head"} <= set(words)
    assert settings.environment(folder, token)[STAYS_LOCAL] == "1"


def test_one_that_joins_starts_no_head(token: Path, tmp_path: Path) -> None:
    settings, folder = NodeSettings(join="192.0.2.7:6379", host="192.0.2.8"), SessionFolder(tmp_path)
    words = settings.command(folder, 5)
    assert "--address=192.0.2.7:6379" in words
    assert not {"--head", "--include-dashboard=true", "--port=6379"} & set(words), "Ray refuses them there"
    record = settings.standing(folder, token, False, "http://192.0.2.7:8265")
    assert (record.role, record.dashboard) == ("worker", "http://192.0.2.7:8265")


def test_it_outlives_what_started_it_and_is_ended_whole(
    here: DashboardHere, token: Path, place: Place, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_instead(monkeypatch, NODE)
    here.answers["/api/jobs/"] = [
        {"submission_id": "done", "status": "SUCCEEDED", "start_time": 1},
        {"submission_id": "score-1", "status": "RUNNING", "start_time": 2},
    ]
    here.answers["/api/jobs/score-1/stop"] = {"stopped": True}
    standing = start(settings_of(here), token, place)
    assert standing.ready
    assert place.read() == standing
    assert standing.leader is not None
    assert os.getsid(standing.leader.pid) == standing.leader.pid != os.getsid(0), "the terminal's end does not reach it"
    monkeypatch.setattr("cxrgaze_ray.cluster.nodes._JOB_STOP_S", -10)
    wait_for_child(standing)
    ended = end_node(standing, place)
    assert ended.jobs == ("score-1",)
    assert ("POST", "/api/jobs/score-1/stop") in here.asked
    assert ended.processes == 2
    assert not standing.lives
    assert list(scratch.iterdir()) == []
    assert not place.folder.exists()
    assert not place.folder.parent.parent.exists()


def test_one_that_was_killed_is_cleared_up_and_its_token_kept(
    here: DashboardHere, token: Path, place: Place, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_instead(monkeypatch, NODE)
    standing = start(settings_of(here), token, place)
    assert standing.leader is not None
    place.token_file.write_text(TOKEN)
    wait_for_child(standing)
    os.kill(standing.leader.pid, signal.SIGKILL)
    os.waitpid(standing.leader.pid, 0)
    assert not standing.lives
    assert clear_remains(standing, place) == 1, "its child was left"
    assert place.read() is None
    assert place.token_file.read_text() == TOKEN
    assert list(scratch.iterdir()) == []


def test_after_a_restart_of_the_machine_nothing_of_others_is_ended(place: Place, token: Path, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as stranger:
        now = Leader.of(stranger.pid)
        assert now is not None
        record = NodeSettings().standing(SessionFolder(tmp_path / "cxrgaze-gone"), token, False, None)
        standing = record.model_copy(update={"leader": now.model_copy(update={"boot": "before"}), "ready": True})
        place.write(standing)
        assert not standing.lives
        assert clear_remains(standing, place) == 0
        assert stranger.poll() is None
        stranger.communicate(b"\n")


@pytest.mark.parametrize("code", ["print('no room'); raise SystemExit(1)", "print('dies'); import os; os.abort()"])
def test_a_start_that_fails_leaves_its_log_only(
    here: DashboardHere, token: Path, place: Place, scratch: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    run_instead(monkeypatch, code)
    here.answers["/api/v0/nodes?detail=1"] = 500
    with pytest.raises(EnvironmentFault, match=r"does not start on this machine.*failed\.log"):
        start(settings_of(here), token, place)
    assert place.read() is None
    assert [file.name for file in place.folder.iterdir()] == ["failed.log"]
    assert (place.folder / "failed.log").read_text().startswith(("no room", "dies"))
    assert list(scratch.iterdir()) == []


def test_a_start_that_is_interrupted_leaves_nothing_running(
    here: DashboardHere, token: Path, place: Place, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_instead(monkeypatch, NODE)
    seen: list[Standing | None] = []

    def interrupt(*_: object) -> bool:
        seen.append(place.read())
        raise KeyboardInterrupt

    monkeypatch.setattr("cxrgaze_ray.cluster.nodes._until", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start(settings_of(here), token, place)
    (standing,) = seen
    assert standing is not None
    assert standing.leader is not None
    assert not standing.lives
    assert list(scratch.iterdir()) == []


def test_a_record_that_can_not_be_read_is_none(place: Place) -> None:
    assert place.read() is None
    place.folder.mkdir(parents=True)
    (place.folder / "node.json").write_text("{}")
    assert place.read() is None


def test_two_commands_do_not_start_at_once(place: Place) -> None:
    with place.locked(), pytest.raises(ConfigError, match="Another `cxrgaze cluster up` or `down`"), place.locked():
        pass
    with place.locked():
        pass


def test_machines_of_one_home_have_records_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("platform.node", lambda: "../a b")
    assert Place.of_this_machine().folder == tmp_path / "cxrgaze" / "cluster" / ".._a_b"
