"""The whole line with every URI in a bucket: draw, ingest, train, publish, score, report, as commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from cxrgaze_ray.schemas import Status
from cxrgaze_ray.scoring.runs import Run, verify_run
from cxrgaze_ray.storage import open_store
from tests.authority import make_authority
from tests.conftest import clear_clients
from tests.plain_s3 import PlainS3

SETTINGS = """
backbone: fresh
stages:
  contrastive: {epochs: 1, batch: 8}
  encoder: {epochs: 1, batch: 8}
  saliency: {epochs: 1, batch: 8}
  classifier: {epochs: 1, batch: 8}
"""


def cxrgaze(*arguments: str) -> dict[str, Any]:
    """Run a command as a user would, in a folder that must stay empty; return what it says to machines."""
    command = [sys.executable, "-m", "cxrgaze_ray", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=580, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture(params=["a real server", "a store without trailers, over TLS"])
def bucket(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Return a fresh prefix; the environment holds what is needed to use it."""
    if request.param == "a real server":
        yield request.getfixturevalue("s3")
        return
    authority = make_authority(tmp_path_factory.mktemp("authority"))
    with PlainS3({"trailers"}, authority.server) as store:
        for name, value in (store.environment() | {"AWS_CA_BUNDLE": str(authority.bundle)}).items():
            monkeypatch.setenv(name, value)
        clear_clients()
        yield "s3://bucket/prefix"


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_whole_line_runs_on_a_bucket(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    s3 = bucket
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.chdir(empty)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("CXRGAZE_REGISTRY", f"{s3}/registry")
    open_store(s3).put("train.yaml", SETTINGS.encode())

    assert cxrgaze("archive", "make", f"{s3}/archive", "--images", "72", "--seed", "3", "--faults", "1")["images"] == 72
    listed = cxrgaze("archive", "list", f"{s3}/archive", "--out", f"{s3}/manifest.parquet")
    store = cxrgaze("ingest", f"{s3}/archive", "--gaze", f"{s3}/archive/egd-cxr", "--out", f"{s3}/store")
    assert store["images"] == 72
    pin = cxrgaze("train", f"{s3}/store", "--preset", "tiny", "--config", f"{s3}/train.yaml", "--promote")
    assert pin["version"] == "v0001"
    assert pin["uri"].startswith(f"{s3}/registry/")
    run = cxrgaze("score", f"{s3}/manifest.parquet", "--out", f"{s3}/runs", "--engine", "float32")
    assert run["rows"] == listed["files"]
    assert run["counts"][str(Status.SCORED)] == 72
    assert cxrgaze("runs", "verify", run["run"])["sound"]
    cxrgaze("runs", "report", run["run"], "--truth", f"{s3}/archive/egd-cxr", "--out", f"{s3}/report.html")
    assert open_store(s3).get("report.html").startswith(b"<!")
    cxrgaze("runs", "export", run["run"], "--to", "csv", "--out", f"{s3}/export")
    assert any(info.key.endswith(".csv") for info in open_store(f"{s3}/export").list())
    night = cxrgaze("score", f"{s3}/manifest.parquet", "--out", f"{s3}/runs", "--not-in", f"{s3}/runs")
    assert night == {"run": None, "rows": 0, "closed_folders": 0}
    assert not verify_run(Run.open(open_store(run["run"])))
    assert not list(empty.iterdir()), "something was written to the local folder"
