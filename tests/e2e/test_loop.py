"""The loop as one test: score, drift, monitor, retrain, gate, promote, roll over under load, roll back."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.lifecycle.monitoring import MonitorReport
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.scoring.runs import find_runs, verify_run
from cxrgaze_ray.storage import LocalStore
from tests.browser import screenshot

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("loop") / "out"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cxrgaze_ray", "demo", "--loop", "--dir", str(folder), "--port", str(port)]
    command += ["--images", "150", "--unseen", "75", "--seed", "6", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=1150, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_the_monitor_names_the_other_hospital(loop: tuple[Path, dict[str, Any]]) -> None:
    folder, said = loop
    assert "site" in said["suspected"]
    report = MonitorReport.model_validate_json((folder / "monitor" / "report.json").read_text())
    assert {one.family for one in report.alerts} >= {"acquisition"}


def typed(*words: str) -> str:
    """Type a command; return the last line of what it printed."""
    command = [sys.executable, "-m", "cxrgaze_ray", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_an_outbreak_is_named_by_the_answers_of_the_trained_model(
    loop: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Nobody labels these images: what the model of 150 phantoms has learned must do."""
    for name, seed, drift in (("usual", "41", ()), ("outbreak", "42", ("--drift", "prevalence"))):
        archive, out = str(tmp_path / name), str(tmp_path / f"runs-{name}")
        typed("archive", "make", archive, "--images", "320", "--seed", seed, *drift, "--json")
        model = ("--registry", str(loop[0] / "registry"), "--model", "cxrgaze@v0001")
        assert json.loads(typed("score", archive, "--out", out, *model, "--json"))["counts"] == {"scored": 320}
    sides = ("--baseline", str(tmp_path / "runs-usual"), "--current", str(tmp_path / "runs-outbreak"))
    found = json.loads(typed("monitor", *sides, "--json"))
    assert [one["drift"] for one in found["suspicions"]] == ["prevalence"]
    assert {one["family"] for one in found["alerts"]} <= {"predictions", "scores", "saliency"}


def test_without_labels_a_person_is_asked_and_with_them_it_retrains(loop: tuple[Path, dict[str, Any]]) -> None:
    assert (loop[1]["decision_before"], loop[1]["decision_after"]) == ("ask", "retrain")


def test_who_promoted_is_what_the_gate_said(loop: tuple[Path, dict[str, Any]]) -> None:
    by = {"accepted": "gate", "cannot_tell": "person", "rejected": "nobody"}
    assert loop[1]["promoted_by"] == by[loop[1]["outcome"]]


def test_serving_rolls_over_and_back_without_a_failed_request(loop: tuple[Path, dict[str, Any]]) -> None:
    _, said = loop
    assert said["promoted_by"] != "nobody", "the gate rejected the demo's candidate: nothing rolled over"
    assert (said["rolled_over"], said["rolled_back"]) == (True, True)
    assert said["requests"] > 10
    assert said["failures"] == 0


def test_the_ledger_tells_the_whole_story(loop: tuple[Path, dict[str, Any]]) -> None:
    folder, said = loop
    assert said["ledger_sound"]
    entries = Registry(LocalStore(str(folder / "registry"))).history("cxrgaze")
    told = [(one.action, one.version, one.alias) for one in entries]
    assert told == [
        ("look", None, None),
        ("publish", "v0001", None),
        ("promote", "v0001", "champion"),
        ("look", None, None),
        ("publish", "v0002", None),
        ("gate", "v0002", None),
        ("promote", "v0002", "champion"),
        ("rollback", "v0001", "champion"),
    ]
    assert all(one.who and one.at for one in entries)


def test_both_runs_are_complete(loop: tuple[Path, dict[str, Any]]) -> None:
    runs = find_runs(str(loop[0] / "run"))
    assert len(runs) == 2
    assert [verify_run(run) for run in runs] == [[], []]


def test_the_report_ends_with_a_timeline(loop: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    page = (loop[0] / "report.html").read_text()
    order = [
        "first champion",
        "comes from another hospital",
        "The monitor",
        "The policy",
        "labels and gaze",
        "Retraining from",
    ]
    assert [page.index(one) for one in order] == sorted(page.index(one) for one in order)
    picture = screenshot(loop[0] / "report.html", tmp_path)
    assert (picture.max(axis=2) < 120).mean() > 0.005, "an empty page"
