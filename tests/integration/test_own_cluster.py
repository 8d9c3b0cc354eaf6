"""A cluster of one's own, as its commands start, use, lose and end it; each socket is tried without the token."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil
import pytest

from cxrgaze_ray.phantoms import PhantomReport
from tests.integration.commands import PRIVATE, Commands
from tests.integration.sockets import refuses, sockets

pytestmark = pytest.mark.long


def job_of(process: subprocess.Popen[str]) -> str:
    """Return the name of the job, once it is submitted."""
    assert process.stderr is not None
    for line in process.stderr:
        if " is submitted to " in line:
            return line.split()[0]
    raise AssertionError(process.communicate())


def wait_for_run(process: subprocess.Popen[str]) -> None:
    """Wait until a scoring job has planned its run."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("Run "):
            return
    raise AssertionError(seen)


def test_a_cluster_takes_jobs_is_left_and_found_again_and_goes_without_a_trace(
    cxrgaze_of: Callable[[str], Commands],
    phantoms: tuple[str, PhantomReport],
    registry: str,
    scratch: Path,
    tmp_path: Path,
) -> None:
    cxrgaze = cxrgaze_of("one")
    assert cxrgaze("cluster", "status").returncode == 4
    told = cxrgaze.up()
    assert told["started"]
    token = Path(told["token_file"]).read_text()
    assert token not in json.dumps(told)
    assert not cxrgaze.up()["started"], "it is up already"
    score = ["score", phantoms[0], "--registry", registry, "--engine", "float32", "--limit", "16"]
    done = cxrgaze("submit", *score, "--out", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout)
    assert (ended["status"], ended["exit_code"], ended["result"]["rows"]) == ("SUCCEEDED", 0, 16)
    assert "Scoring: 16 of 16" in done.stderr, "what it says is followed"
    assert "Uploading" not in done.stderr
    again = cxrgaze("submit", "attach", ended["job"], "--json")
    assert (again.returncode, json.loads(again.stdout)) == (0, ended)

    failed = cxrgaze("submit", "monitor", "--baseline", str(tmp_path / "no"), "--current", str(tmp_path / "no"))
    assert failed.returncode == 2, "the job's own exit code"
    assert failed.stderr.splitlines()[-1].startswith("cxrgaze: monitor-")
    assert "There is no run at" in failed.stderr.splitlines()[-1]

    left = cxrgaze.start("submit", *score, "--out", str(tmp_path / "left"))
    job = job_of(left)
    left.send_signal(signal.SIGTERM)
    _, said = left.communicate(timeout=60)
    assert left.returncode == 130
    assert f"{job} goes on. Follow it again: cxrgaze submit attach {job}" in said

    status = json.loads(cxrgaze("cluster", "status", "--json").stdout)
    assert [one["state"] for one in status["nodes"]] == ["ALIVE"]
    assert {one["job"]: one["status"] for one in status["jobs"]}[job] in ("PENDING", "RUNNING")
    assert PRIVATE not in json.dumps(status) + sent(scratch)
    assert token not in json.dumps(status) + sent(scratch)
    assert cxrgaze("submit", "cancel", job).returncode == 0
    stopped = cxrgaze("submit", "attach", job)
    assert stopped.returncode == 4
    assert f"Somebody else stopped {job}." in stopped.stderr
    everyone = cxrgaze.processes()
    down = json.loads(cxrgaze("cluster", "down", "--json").stdout)
    assert down["ended"] >= 10
    assert not psutil.wait_procs(everyone, timeout=5)[1]
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "one" / "cxrgaze").exists()
    assert cxrgaze("cluster", "down").returncode == 2


def sent(scratch: Path) -> str:
    """Return all files that were sent with jobs."""
    folders = list(scratch.glob("cxrgaze-*/ray/session_2*/runtime_resources/working_dir_files/*"))
    files = [file for folder in folders if folder.is_dir() for file in folder.rglob("*") if file.is_file()]
    assert files
    assert {file.suffix for file in files if "__pycache__" not in file.parts} == {".py", ".yaml"}
    return " ".join(file.read_text() for file in files if file.suffix in (".py", ".yaml"))


@pytest.mark.timeout(1200)  # two clusters and two runs
def test_a_head_that_was_killed_is_missed_cleared_up_and_started_again(
    cxrgaze_of: Callable[[str], Commands],
    phantoms: tuple[str, PhantomReport],
    registry: str,
    scratch: Path,
    tmp_path: Path,
) -> None:
    cxrgaze = cxrgaze_of("one")
    told = cxrgaze.up()
    token = Path(told["token_file"]).read_text()
    words = ["submit", "score", phantoms[0], "--out", str(tmp_path / "out"), "--registry", registry]
    words += ["--engine", "float32", "--limit", "16"]
    follower = cxrgaze.start(*words)
    job = job_of(follower)
    wait_for_run(follower)
    leader = cxrgaze.standing().leader
    assert leader is not None
    os.kill(leader.pid, signal.SIGKILL)
    lost = cxrgaze("cluster", "status")
    assert lost.returncode == 4
    assert "has ended without `cluster down`" in lost.stderr
    assert cxrgaze.up()["started"]
    assert Path(told["token_file"]).read_text() == token, "others who know it need no new one"
    assert len(list(scratch.glob("cxrgaze-*"))) == 1, "the folder of the killed one is gone"
    _, said = follower.communicate(timeout=200)
    assert follower.returncode == 4
    assert "The head does not answer. Waiting for it" in said
    assert f"{job} is lost" in said.splitlines()[-1]
    assert "Submit it again" in said.splitlines()[-1]
    again = cxrgaze(*words, "--json")
    assert again.returncode == 0, again.stderr
    assert "Continuing run" in again.stderr, "it goes on with what was planned"


def test_every_socket_of_it_refuses_who_has_no_token(cxrgaze_of: Callable[[str], Commands], tmp_path: Path) -> None:
    cxrgaze = cxrgaze_of("one")
    told = cxrgaze.up()
    open_to_all = {told["metrics_port"], *discovered(told)}
    found = listening(cxrgaze)
    assert len(found) >= 10
    assert all(ip_address(host).is_loopback for host, _ in found), found
    guarded = {port for _, port in found} - open_to_all
    refused = {port: refuses(told["host"], port) for port in guarded}
    assert all(refused.values()), refused
    assert open_to_all <= {port for _, port in found}


def test_beyond_loopback_only_metrics_answer_who_has_no_token(
    cxrgaze_of: Callable[[str], Commands], tmp_path: Path
) -> None:
    host = own_address()
    head, other = cxrgaze_of("head"), cxrgaze_of("other")
    told = head.up("--host", host)
    words = ["cluster", "up", "--join", told["address"], "--metrics-port", str(other.ports[2]), "--num-cpus", "1"]
    words += ["--object-store-mib", "100"]
    wrong = tmp_path / "wrong"
    wrong.write_text("f" * 64)
    wrong.chmod(0o600)
    refused = other(*words, "--token-file", str(wrong))
    assert (refused.returncode, refused.stderr.count("\n")) == (4, 1), refused.stderr
    assert "does not answer to this token" in refused.stderr
    joined = other(*words, "--token-file", told["token_file"])
    assert joined.returncode == 0, joined.stderr
    status = json.loads(other("cluster", "status", "--json").stdout)
    assert sorted(one["role"] for one in status["nodes"]) == ["head", "worker"]
    open_to_all = {told["metrics_port"], other.ports[2], *discovered(told)}
    found = listening(head) | listening(other)
    refusals = {port: refuses(at, port) for at, port in found if port not in open_to_all}
    assert all(refusals.values()), refusals
    assert json.loads(other("cluster", "down", "--json").stdout)["ended"] >= 3
    assert [one["state"] for one in json.loads(head("cluster", "status", "--json").stdout)["nodes"]].count("ALIVE") == 1


def own_address() -> str:
    """Return an address of this machine that others could reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(one.getsockname()[0])


def discovered(told: dict[str, Any]) -> set[int]:
    """Return the ports that Prometheus is sent to."""
    (group,) = json.loads(Path(told["discovery"]).read_text())
    return {int(target.rpartition(":")[2]) for target in group["targets"]}


def listening(cxrgaze: Commands) -> set[tuple[str, int]]:
    """Return address and port of every socket on which a node's processes listen."""
    found, here = sockets(cxrgaze.processes()), cxrgaze.standing().host
    return {(here if host in ("::", "0.0.0.0") else host, port) for host, port in found}
