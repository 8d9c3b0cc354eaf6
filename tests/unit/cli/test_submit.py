"""What is sent of a command, what is not, and how the command ends as its job did."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import yaml

from cxrgaze_ray.cli import submitting
from cxrgaze_ray.cli.job_settings import checked_settings, job_class, job_file, local_paths, waiting_for
from cxrgaze_ray.cluster.job_server import JobServer, JobState
from cxrgaze_ray.errors import ConfigError
from tests.command import Cxrgaze
from tests.dashboard_here import NODE, TOKEN, DashboardHere, dashboard_here

JOBS = Path(__file__).parents[3] / "jobs"


class Sent:
    """What was sent to the server, and what it says of the job."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.entrypoint = ""
        self.metadata: dict[str, str] = {}
        self.states = [JobState("RUNNING"), JobState("SUCCEEDED", 0)]
        self.words = 'words of the job\n{"rows": 3}\n'
        self.on_tail: Callable[[], None] = lambda: None
        self.stopped: list[str] = []

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the job, as it would read them."""
        (text,) = (text for name, text in self.files.items() if name.endswith(".yaml"))
        found: dict[str, Any] = yaml.safe_load(text)
        return found


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DashboardHere]:
    """Serve a dashboard that variables name."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-store")
    with dashboard_here() as dashboard:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", dashboard.url)
        yield dashboard


@pytest.fixture
def sent(here: DashboardHere, monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Stand for Ray's client, which needs a cluster."""
    found = Sent()

    def submit(_: JobServer, job: str, entrypoint: str, folder: Path, metadata: dict[str, str]) -> None:
        found.files = {one.name: one.read_text() for one in folder.iterdir()}
        found.entrypoint, found.metadata = entrypoint, metadata

    def state(_: JobServer, job: str) -> JobState:
        return found.states.pop(0) if len(found.states) > 1 else found.states[0]

    def tail(_: JobServer, job: str, words: Queue[str | None]) -> None:
        found.on_tail()
        words.put(found.words)
        words.put(None)

    monkeypatch.setattr(JobServer, "submit", submit)
    monkeypatch.setattr(JobServer, "state", state)
    monkeypatch.setattr(JobServer, "tail", tail)
    monkeypatch.setattr(JobServer, "stop", lambda _, job: found.stopped.append(job))
    monkeypatch.setattr("cxrgaze_ray.cluster.following._AGAIN_S", 0.0)
    return found


SCORE = ("submit", "score", "s3://hospital/cxr", "--out", "s3://results/cxr", "--registry", "s3://models/registry")


def test_the_entry_point_and_its_settings_are_all_that_is_sent(cxrgaze: Cxrgaze, sent: Sent) -> None:
    ended = cxrgaze(*SCORE, "--limit", 5, "--replicas", "1:3", "--new", "--json")
    assert ended.code == 0, ended.err
    assert sent.files.keys() == {"score.py", "score.yaml"}
    assert sent.files["score.py"] == job_file("score").read_text()
    assert sent.entrypoint == "python score.py --config score.yaml"
    everything = json.dumps([sent.files, sent.metadata, sent.entrypoint])
    assert "secret-of-the-store" not in everything
    assert TOKEN not in everything
    settings = sent.settings
    assert settings["request"]["archive"] == "s3://hospital/cxr"
    assert settings["request"]["options"]["limit"] == 5
    assert settings["settings"]["model"] == {"min_replicas": 1, "max_replicas": 3}
    assert settings["new"]
    assert ended.json["result"] == {"rows": 3}
    assert ended.json["job"].startswith("score-")
    assert "words of the job" in ended.err


def test_a_scoring_job_ends_with_what_score_says_and_without_ray_s_own_lines(cxrgaze: Cxrgaze, sent: Sent) -> None:
    result = {
        "run": "s3://results/cxr/7e", "closed_folders": 0, "run_id": "7e", "rows": 5, "finished_at": "2026-11-29",
        "counts": {"scored": 3, "failed": 2}, "reasons": {"truncated": 2}, "predictions": {}, "seconds": 10.0,
        "images_per_second": 0.5, "spec_sha256": "0", "seal": "0",
    }  # fmt: skip
    sent.words = "\n".join(
        [
            "2026-11-29 15:20:02,123\tINFO streaming_executor.py:100 -- Starting execution",
            "[2026-11-29 15:20:02,123 E 4345 4345] core_worker.cc:2465: Actor with class name: 'X' will fail",
            "(ServeReplica:cxrgaze:Model pid=77, ip=10.0.0.5) something of a replica's",
            "Run 7e: 5 files with cxrgaze v0001 on fast-float32-cpu.",
            json.dumps(result),
            "",
        ]
    )
    quiet, loud = cxrgaze(*SCORE), cxrgaze(*SCORE, "--verbose")
    assert quiet.code == loud.code == 0, quiet.err
    assert quiet.out.splitlines() == [
        "5 files: 3 scored, 0 skipped, 2 failed.",
        "0.5 images/s over 10 s.",
        "Reasons: truncated 2.",
        "Run: s3://results/cxr/7e",
        "A page of it: cxrgaze runs report s3://results/cxr/7e --out report.html",
        "Which files failed, and why: cxrgaze runs show s3://results/cxr/7e --failed",
    ]
    assert "Run 7e: 5 files" in quiet.err
    for noise in ("streaming_executor", "core_worker.cc", "something of a replica"):
        assert noise not in quiet.err
        assert noise in loud.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ingest", "s3://a", "--out", "s3://b", "--gaze", "s3://c", "--keep", "all"], {"gaze": ["s3://c"]}),
        (["train", "s3://a", "--preset", "tiny", "--workers", "2:8", "--gpus", "2"], {"cluster": {"gpus": 2}}),
        (["tables", "s3://a", "--only", "gazenet", "--out", "s3://b"], {"out": "s3://b"}),
        (["monitor", "--baseline", "s3://a", "--current", "s3://b", "--last", "3"], {"last": 3}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_every_command_s_options_become_its_job_s_settings(
    cxrgaze: Cxrgaze, sent: Sent, words: list[str], expected: dict[str, Any]
) -> None:
    ended = cxrgaze("submit", *words, "--no-wait", "--json")
    assert ended.code == 0, ended.err
    assert sent.settings.items() >= expected.items()
    assert job_class(words[0]).build(**sent.settings)
    assert f"attach {ended.json['job']} --address" in ended.json["follow"]


def test_a_retraining_takes_its_file_and_what_goes_over_it(cxrgaze: Cxrgaze, sent: Sent) -> None:
    ended = cxrgaze("submit", "retrain", "--config", JOBS / "retrain.yaml", "--auto-promote", "--reason", "schedule")
    assert ended.code == 0, ended.err
    assert sent.settings["auto_promote"]
    assert sent.settings["reason"] == "schedule"
    assert sent.settings["policy"]["name"] == "site-b-2026"


@pytest.mark.parametrize("name", ["score", "ingest", "train", "retrain", "tables", "monitor"])
def test_a_job_s_whole_file_is_taken_instead_of_options(cxrgaze: Cxrgaze, sent: Sent, name: str) -> None:
    ended = cxrgaze("submit", name, "--job", JOBS / f"{name}.yaml", "--no-wait")
    assert ended.code == 0, ended.err
    kind = job_class(name)
    assert kind.build(**sent.settings) == kind.from_yaml((JOBS / f"{name}.yaml").read_text())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["score"], "ARCHIVE"),
        (["score", "s3://a"], "--out"),
        (["score", "--job", str(JOBS / "score.yaml"), "--limit", "3"], "leave out --limit"),
        (["score", "--job", str(JOBS / "train.yaml")], "settings.seed"),
        (["score", "--job", "nowhere.yaml"], "nowhere.yaml"),
        (["monitor", "--baseline", "a", "--current", "b", "--gpus", "1"], "computes on no GPU"),
        (["train", "s3://a", "--tracking-uri", "http://me:hunter2@mlflow:5000"], "URL with a password"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_what_would_not_run_is_not_sent(cxrgaze: Cxrgaze, sent: Sent, words: list[str], told: str) -> None:
    ended = cxrgaze("submit", *words)
    assert ended.code == 2
    assert told in ended.err
    assert "hunter2" not in ended.err
    assert sent.files == {}


def test_paths_are_sent_in_full_and_names_are_not_touched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    request = {"archive": "scans", "model": "cxrgaze@champion", "engine": "auto", "not_in": ["runs", "s3://runs"]}
    found = checked_settings("score", {"request": request, "out": "./out", "registry": "s3://models"})
    assert found["request"]["archive"] == str(tmp_path / "scans")
    assert found["request"]["not_in"] == [str(tmp_path / "runs"), "s3://runs"]
    assert found["request"]["model"] == "cxrgaze@champion"
    assert (found["out"], found["registry"]) == (str(tmp_path / "out"), "s3://models")
    assert set(local_paths(found)) == {str(tmp_path / name) for name in ("scans", "runs", "out")}
    ingested = checked_settings("ingest", {"archive": "a", "out": "s3://b", "settings": {"labels": "sheet"}})
    assert ingested["settings"] == {"labels": "sheet"}, "no path, though a key of that name is one elsewhere"


def test_gpus_go_over_what_a_file_says_of_the_cluster() -> None:
    values = {"cluster": {"gpus": 1, "gpus_wait_s": 5}}
    assert waiting_for(3, "train", values) == {"cluster": {"gpus": 3, "gpus_wait_s": 5}}
    with pytest.raises(ConfigError):
        waiting_for(1, "monitor", {})


def test_a_path_on_a_cluster_of_several_machines_is_warned_of(cxrgaze: Cxrgaze, sent: Sent) -> None:
    assert "Warning: " not in cxrgaze(*SCORE, "--no-wait").err
    there = cxrgaze("submit", "score", "/data", *SCORE[3:], "--no-wait")
    assert "Warning: /data is a path: every node of the cluster must see the same files there." in there.err


def test_another_version_on_the_nodes_is_warned_of(cxrgaze: Cxrgaze, sent: Sent, here: DashboardHere) -> None:
    other = NODE | {"labels": {"cxrgaze": "9.9.9"}}
    here.answers["/api/v0/nodes?detail=1"] = {"data": {"result": {"result": [other]}}}
    assert "nodes have cxrgaze 9.9.9" in cxrgaze(*SCORE, "--no-wait").err


@pytest.mark.parametrize(
    ("state", "code", "told"),
    [
        (JobState("FAILED", 2), 2, "ended with exit code 2: The store is closed."),
        (JobState("FAILED", 10), 10, "ended with exit code 10"),
        (JobState("FAILED", 130), 130, "was told to stop."),
        (JobState("FAILED", 137), 4, "was killed before its end"),
        (JobState("FAILED", -9), 4, "was killed before its end"),
        (JobState("FAILED"), 4, "was killed before its end"),
        (JobState("STOPPED"), 4, "Somebody else stopped score-"),
    ],
    ids=str,
)
def test_it_ends_as_the_job_did_and_says_why_in_one_line(
    cxrgaze: Cxrgaze, sent: Sent, state: JobState, code: int, told: str
) -> None:
    sent.states = [JobState("RUNNING"), state]
    sent.words = 'half a word\n{"error": "StoreDenied", "message": "The store is closed."}\n'
    ended = cxrgaze(*SCORE)
    assert ended.code == code
    assert told in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err


def test_ctrl_c_where_nobody_can_be_asked_leaves_the_job_alone(cxrgaze: Cxrgaze, sent: Sent) -> None:
    sent.on_tail = lambda: os.kill(os.getpid(), signal.SIGINT)
    ended = cxrgaze(*SCORE)
    assert ended.code == 130
    assert "goes on. Follow it again: cxrgaze submit attach score-" in ended.err.splitlines()[-1]
    assert sent.stopped == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_while_it_is_being_sent_it_says_how_to_look(
    cxrgaze: Cxrgaze, sent: Sent, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setattr(JobServer, "submit", lambda *_: os.kill(os.getpid(), number))
    ended = cxrgaze(*SCORE)
    assert ended.code == 130
    assert "was being sent. See whether the cluster has it: cxrgaze submit attach score-" in ended.err


@pytest.mark.parametrize(("answer", "code"), [(True, 130), (False, 130)])
def test_ctrl_c_at_a_terminal_asks_whether_to_cancel(
    cxrgaze: Cxrgaze, sent: Sent, monkeypatch: pytest.MonkeyPatch, answer: bool, code: int
) -> None:
    asked: list[str] = []

    def asks(question: str) -> bool:
        asked.append(question)
        return answer

    monkeypatch.setattr(submitting, "asks", asks)

    def interrupt() -> None:
        if not asked:
            os.kill(os.getpid(), signal.SIGINT)

    sent.on_tail, sent.states = interrupt, [JobState("RUNNING"), JobState("STOPPED")]
    ended = cxrgaze(*SCORE)
    assert ended.code == code
    assert len(asked) == 1
    assert len(sent.stopped) == int(answer)
    assert ("is cancelled. What it committed stands" if answer else "goes on. Follow it again") in ended.err


def test_a_job_that_has_ended_can_not_be_cancelled(cxrgaze: Cxrgaze, sent: Sent) -> None:
    sent.states = [JobState("SUCCEEDED", 0)]
    ended = cxrgaze("submit", "cancel", "score-1")
    assert ended.code == 2
    assert "has it as succeeded already" in ended.err
    sent.states = [JobState("RUNNING")]
    assert cxrgaze("submit", "cancel", "score-1").code == 0
    assert sent.stopped == ["score-1"]
