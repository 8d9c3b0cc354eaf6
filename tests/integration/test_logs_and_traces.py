"""Logs and traces of a service and a run on a real cluster: where they are, whom they name, and whom they never do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread

from cxrgaze_ray.cluster.ports import free_ports
from cxrgaze_ray.cluster.session_folder import make_session_folder
from cxrgaze_ray.phantoms import make_archive
from cxrgaze_ray.scoring.runs import find_runs
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.telemetry.traces import ATTRIBUTES
from tests.dicom_files import gradient, make_dicom
from tests.integration.conftest import HEIGHT
from tests.integration.served import CXRGAZE, served

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

CANARY, REQUEST = "MRN-774411", str(uuid.uuid4())


@dataclass(frozen=True)
class Left:
    """What a service and a run have left behind."""

    stderr: str
    logs: Path
    spans: Path
    run: str
    archive: Path

    def traced(self) -> list[dict[str, Any]]:
        """Return the spans of all processes."""
        return [json.loads(line) for path in self.spans.iterdir() for line in path.read_text().splitlines()]

    def lines(self, message: str) -> list[dict[str, Any]]:
        """Return the lines of the cluster's processes with a message."""
        texts = [path.read_text(errors="replace") for path in self.logs.rglob("*.err")]
        parsed = [json.loads(line) for text in texts for line in text.splitlines() if line.startswith('{"time"')]
        return [line for line in parsed if line["message"] == message]


@pytest.fixture(scope="module")
def left(published: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    """Serve, ask and score with JSON logs and traces on."""
    here = tmp_path_factory.mktemp("told")
    (port,) = free_ports(1)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        folder = make_session_folder()
        stack.callback(shutil.rmtree, folder.root, ignore_errors=True)
        for name, value in {
            "CXRGAZE_LOG_FORMAT": "json",
            "CXRGAZE_TRACES": str(here / "spans"),
            "RAY_AUTH_TOKEN": "7" * 64,
            "TMPDIR": str(folder.root),
            "XDG_CONFIG_HOME": str(here / "config"),
        }.items():
            patch.setenv(name, value)
        archive = str(here / f"archive-{CANARY}")
        make_archive(open_store(archive), images=40, height=HEIGHT)
        service = stack.enter_context(served(here, published, port, "--metrics-port", "0"))
        url = f"http://127.0.0.1:{port}"
        service.wait_for(lambda: "--address" in service.log.read_text(), "it does not say where batch jobs find it")
        where = service.log.read_text().split("--address ")[1].split(";")[0]
        for request in (REQUEST, CANARY):
            headers = {"X-Request-ID": request, "User-Agent": CANARY}
            answer = httpx.post(f"{url}/v1/predict", content=make_dicom(gradient()), headers=headers, timeout=120)
            assert answer.status_code == 200
        httpx.get(f"{url}/v1/{CANARY}", timeout=60)
        words = ["score", archive, "--out", str(here / "runs"), "--registry", published, "--address", where]
        done = subprocess.run([*CXRGAZE, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        (run,) = find_runs(str(here / "runs"))
        (logs,) = folder.root.glob("cxrgaze-*/ray/session_latest/logs")
        yield Left(done.stderr, logs, here / "spans", run.spec.run_id, Path(archive))


def test_a_command_s_lines_are_json_and_name_its_run(left: Left) -> None:
    lines = [json.loads(line) for line in left.stderr.splitlines()]
    about = {line["message"]: line for line in lines if line.get("run") == left.run}
    assert {"run begun", "shard committed", "run finished"} <= set(about)
    assert about["shard committed"]["shard"] == 0
    assert any(line["message"].startswith("Run ") for line in lines), "the sentences to the user are lines, too"


def test_workers_name_run_and_shard(left: Left) -> None:
    decoded = left.lines("chunk decoded")
    assert {(line["run"], line["shard"]) for line in decoded} == {(left.run, 0)}
    assert sum(line["images"] for line in decoded) > 30


def test_replicas_name_the_request_and_no_client_s_words(left: Left) -> None:
    answered = left.lines("request answered")
    scored = [line for line in answered if line["route"] == "/v1/predict"]
    assert [line["code"] for line in scored] == [200, 200]
    assert REQUEST in {line["request"] for line in scored}
    assert [line["route"] for line in answered if line["code"] == 404] == ["other"]
    assert left.lines("model served")


def test_tasks_requests_and_workers_left_spans(left: Left) -> None:
    names = {span["name"] for span in left.traced()}
    assert {"POST /v1/predict", "GET other"} <= names
    assert any("ray.remote" in name for name in names), "Ray's own hook is on"
    assert len({path.name for path in left.spans.iterdir()}) > 3, "workers, replicas and drivers"


def test_no_span_has_words_of_clients_patients_or_paths(left: Left) -> None:
    spans = left.traced()
    assert all(set(span["attributes"]) <= ATTRIBUTES and not span["events"] for span in spans)
    files = [path for path in Path(left.archive, "files").rglob("*") if path.suffix]
    assert len(files) == 40
    patients = {dcmread(path, stop_before_pixels=True).PatientID for path in files if path.suffix == ".dcm"}
    assert len(patients) > 3
    places = {part for path in files for part in path.relative_to(left.archive).with_suffix("").parts[2:]}
    named, told = (CANARY, "PHANTOM", str(left.archive.parent), *patients, *places), json.dumps(spans)
    # not within a word: a span's id of many digits may have a patient's by chance
    assert [one for one in named if re.search(rf"(?<![0-9a-z]){re.escape(one)}(?![0-9a-z])", told)] == []


def test_no_log_has_a_canary(left: Left) -> None:
    found = [
        path.name for path in left.logs.rglob("*") if path.is_file() and CANARY in path.read_text(errors="replace")
    ]
    assert found == []
