"""A private cluster is closed to other machines and other users, and a stop leaves nothing of it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from cxrgaze_ray.cluster.connection import Cluster
from cxrgaze_ray.phantoms import PhantomReport
from cxrgaze_ray.scoring.runs import find_runs
from tests.integration.scored import start_driver, wait_for
from tests.integration.sockets import family_of, sockets
from tests.labelled_store import write_store


def test_everything_listens_on_this_machine_only(cluster: Cluster) -> None:
    others, _ = family_of(psutil.Process())
    found = {host for host, _ in sockets(others)}
    assert found
    assert all(ip_address(one).is_loopback for one in found), found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another user")
def test_another_user_does_not_get_to_ray_s_session(cluster: Cluster) -> None:
    assert cluster.logs is not None
    session = cluster.logs / "ray" / "session_latest"
    assert stat.S_IMODE(session.stat().st_mode) == 0o777, "as Ray opens it"
    for command in (["ls", str(session)], ["mv", str(session), f"{session}-"], ["ls", str(cluster.logs)]):
        who = {"user": "nobody", "extra_groups": [], "cwd": "/"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, **who)  # type: ignore[call-overload]
        assert "Permission denied" in done.stderr, done


def ends_as_by_ctrl_c(
    process: subprocess.Popen[str], number: signal.Signals, scratch: Path, *, group: bool = False
) -> str:
    """Send a signal to a command or its whole group; see that it ends well and leaves nothing; return its words."""
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) > 3, "Ray was not there yet"
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    assert list(scratch.iterdir()) == []
    return said


@pytest.mark.long
@pytest.mark.parametrize(("number", "group"), [(signal.SIGTERM, True), (signal.SIGHUP, False)], ids=["group", "one"])
def test_scoring_drains_and_leaves_nothing(
    number: signal.Signals, group: bool, large_archive: str, registry: str, tmp_path: Path, scratch: Path
) -> None:
    out = str(tmp_path / "out")
    driver = start_driver(large_archive, out, registry, None, TMPDIR=str(scratch))
    wait_for(lambda: any(run.live_shards() for run in find_runs(out)), driver, 200)
    said = ends_as_by_ctrl_c(driver, number, scratch, group=group)
    assert "Continue with: cxrgaze score" in said


@pytest.mark.long
def test_training_stops_and_leaves_nothing(tmp_path: Path, scratch: Path) -> None:
    store = write_store(tmp_path / "store", {"train": 16, "validation": 8, "test": 8})
    config = tmp_path / "settings.yaml"
    config.write_text("backbone: fresh\n")
    command = [sys.executable, "-m", "cxrgaze_ray", "train", store.store.uri, "--preset", "tiny"]
    command += ["--config", str(config), "--registry", str(tmp_path / "registry")]
    environment = os.environ | {"TMPDIR": str(scratch)}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as job:
        assert job.stderr is not None
        seen: list[str] = []
        while " epoch " not in (line := job.stderr.readline()):
            assert line, seen
            seen.append(line)
        said = ends_as_by_ctrl_c(job, signal.SIGTERM, scratch)
    assert "cxrgaze: stopped." in said


@pytest.mark.long
def test_evaluating_stops_and_leaves_nothing(registry: str, tmp_path: Path, scratch: Path) -> None:
    store = write_store(tmp_path / "store", {"test": 300})
    command = [sys.executable, "-m", "cxrgaze_ray", "evaluate", store.store.uri, "--registry", registry]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(scratch)}
    ) as job:
        assert job.stderr is not None
        while not (line := job.stderr.readline()).startswith("Evaluating: 0 of 300"):
            assert line, "it ended before it began"
        time.sleep(5)  # until its workers are starting
        said = ends_as_by_ctrl_c(job, signal.SIGTERM, scratch)
    assert "cxrgaze: stopped." in said


@pytest.mark.long
def test_a_long_tmpdir_is_no_obstacle(tmp_path: Path, registry: str, phantoms: tuple[str, PhantomReport]) -> None:
    long = tmp_path / ("slurm-" * 14)
    long.mkdir()
    driver = start_driver(phantoms[0], str(tmp_path / "out"), registry, None, TMPDIR=str(long))
    _, said = driver.communicate(timeout=300)
    assert driver.returncode == 0, said
