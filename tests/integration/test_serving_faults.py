"""What happens to the application and the jobs on it when its model moves or its replicas go away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pyarrow.compute as pc
import pytest
import ray
from ray import serve

from cxrgaze_ray.config.serve_file import IngressSettings
from cxrgaze_ray.models.bundle import make_bundle, read_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.phantoms import PhantomReport
from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.scoring.driver import Outcome, ScoreSettings, score_archive
from cxrgaze_ray.scoring.gather import Progress
from cxrgaze_ray.scoring.runs import Request, Run, verify_run
from cxrgaze_ray.serving import APPLICATION, ServeFile
from cxrgaze_ray.serving.ingress import Ingress
from cxrgaze_ray.storage import open_store
from tests.dicom_files import gradient, make_dicom
from tests.integration.conftest import LARGE, same_cluster
from tests.integration.scored import rows, score
from tests.integration.serving_load import Answer, hammered, held, processes, wait_until

ROOT = Path(__file__).parents[2]


def expected(pin: ModelPin, body: bytes) -> list[float]:
    """Return what a version answers on its own."""
    with Decoder("cxrgaze-v1") as decoder:
        image = decoder.decode(body).pixels
    predictions = Predictor.from_bundle(read_bundle(open_store(pin.uri))).predict(image[None])
    assert predictions.probabilities_BK is not None
    found: list[float] = predictions.probabilities_BK[0].tolist()
    return found


def last_is(answers: list[Answer], version: str) -> bool:
    return bool(answers) and answers[-1].body["model"]["version"] == version


def test_a_champion_that_moves_under_load_loses_no_request(application: ServeFile, published: str) -> None:
    ledger, body = Registry(open_store(published)), make_dicom(gradient())
    old = ledger.resolve("cxrgaze@champion")
    new = ledger.publish(make_bundle(build(PRESETS["tiny"], 31), "cxrgaze", trained=False))
    alone = {pin.version: expected(pin, body) for pin in (old, new)}
    with hammered(application.url, body) as answers:
        ledger.promote("cxrgaze", new.version)
        wait_until(partial(last_is, answers, new.version), "the promoted version is not served")
        ledger.rollback("cxrgaze")
        wait_until(partial(last_is, answers, old.version), "the version before is not served again")
    assert {answer.code for answer in answers} == {200}
    assert {answer.body["model"]["version"] for answer in answers} == set(alone)
    for answer in answers:
        found = list(answer.body["probabilities"].values())
        assert found == pytest.approx(alone[answer.body["model"]["version"]], abs=1e-6)


def test_a_chunk_can_be_given_by_reference(application: ServeFile, published: str) -> None:
    pin = Registry(open_store(published)).resolve("cxrgaze@champion")
    handle = serve.get_deployment_handle("Model", APPLICATION)
    images = np.random.default_rng(0).integers(0, 65536, (5, 640, 512), np.uint16)
    answers = [handle.predict.remote(one, pin, "reference-float32-cpu").result() for one in (images, ray.put(images))]
    assert np.array_equal(answers[0].logits_BK, answers[1].logits_BK)
    assert np.array_equal(answers[0].saliency.levels_BHW, answers[1].saliency.levels_BHW)


@pytest.mark.long
def test_a_killed_replica_costs_a_job_no_row_and_a_client_a_503_at_most(
    application: ServeFile, phantoms: tuple[str, PhantomReport], calm: Outcome, published: str, tmp_path: Path
) -> None:
    request = Request(archive=phantoms[0], model="cxrgaze@champion", engine="float32")
    settings = ScoreSettings(decoders=2)
    (process,) = processes(APPLICATION)
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if not killed and progress.received:
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    with hammered(application.url, make_dicom(gradient()), clients=2) as answers:
        out = str(tmp_path / "out")
        outcome = score_archive(request, out, published, same_cluster, settings=settings, on_progress=kill)
        served = len(answers)
        wait_until(lambda: any(answer.code == 200 for answer in answers[served:]), "no request is answered any more")
    assert killed
    assert processes(APPLICATION) != {process}
    assert rows(outcome.run).equals(rows(calm.run))
    assert {answer.code for answer in answers} <= {200, 503}
    for answer in answers:
        if answer.code == 503:
            assert answer.body["reason"] == "model_unavailable"
            assert answer.retry_after is not None
            assert int(answer.retry_after) > 0


@pytest.mark.long
def test_a_service_whose_replica_is_stuck_is_not_ready_until_another_takes_its_place(application: ServeFile) -> None:
    (process,) = processes(APPLICATION)
    os.kill(process, signal.SIGSTOP)
    try:
        wait_until(lambda: httpx.get(f"{application.url}/readyz").status_code == 503, "it still says that it is ready")
        assert httpx.get(f"{application.url}/readyz").json()["reason"] == "model_unavailable"
        wait_until(lambda: httpx.get(f"{application.url}/readyz").status_code == 200, "it is never ready again")
        assert process not in processes(APPLICATION)
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.mark.long
def test_a_killed_ingress_costs_a_client_a_503_at_most(application: ServeFile) -> None:
    (process,) = processes(APPLICATION, "Ingress")
    with hammered(application.url, make_dicom(gradient()), clients=4) as answers:
        wait_until(lambda: len(answers) > 8, "no request is answered")
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: processes(APPLICATION, "Ingress") not in (set(), {process}), "no ingress takes its place")
        served = len(answers)
        wait_until(lambda: any(answer.code == 200 for answer in answers[served:]), "no request is answered any more")
    assert {answer.code for answer in answers} <= {200, 503}
    for answer in answers:
        if answer.code == 503:
            assert answer.body["reason"] in ("unavailable", "not_ready")
            assert int(answer.retry_after or 0) > 0


@pytest.mark.long
def test_a_job_keeps_its_weights_when_the_champion_moves_meanwhile(
    application: ServeFile, whole: Outcome, large_archive: str, published: str, tmp_path: Path
) -> None:
    ledger = Registry(open_store(published))
    first = ledger.resolve("cxrgaze@champion")
    new = ledger.publish(make_bundle(build(PRESETS["tiny"], 41), "cxrgaze", trained=False))
    moved: list[tuple[int, datetime]] = []

    def serves(version: str) -> bool:
        return bool(httpx.get(f"{application.url}/v1/model", timeout=60).json()["version"] == version)

    def promote(progress: Progress) -> None:
        if progress.received and not moved:
            ledger.promote("cxrgaze", new.version)
            wait_until(partial(serves, new.version), "the promoted version is not served")
            moved.append((progress.received, datetime.now(UTC)))

    try:
        outcome = score(large_archive, str(tmp_path), published, on_progress=promote)
        assert serves(new.version)
    finally:
        ledger.rollback("cxrgaze")
        wait_until(partial(serves, first.version), "the version before is not served again")
    ((received, when),) = moved
    table = outcome.run.summary()
    assert received < LARGE
    assert pc.max(table["scored_at"]).as_py() > when, "all rows were scored before the champion moved"
    assert set(table["weights_sha256"].to_pylist()) == {first.weights_sha256}
    assert rows(outcome.run).equals(rows(whole.run))
    assert not verify_run(outcome.run)


@pytest.mark.long
def test_a_replica_that_starts_later_holds_the_model_before_its_first_request(
    application: ServeFile, published: str
) -> None:
    pin = Registry(open_store(published)).resolve("cxrgaze@champion")
    before = processes(APPLICATION)
    for process in before:
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: bool(processes(APPLICATION) - before), "no replica took its place")
    assert held(APPLICATION) == [[(pin.weights_sha256, "reference-float32-cpu")]]


@pytest.mark.long
def test_an_overloaded_ingress_says_when_to_come_back(application: ServeFile, published: str) -> None:
    narrow = Ingress.options(max_ongoing_requests=1, max_queued_requests=1)  # type: ignore[attr-defined]
    settings = IngressSettings(registry=published, engine="float32", decoders=1)
    model = serve.get_deployment_handle("Model", APPLICATION)
    serve.run(narrow.bind(settings, model), name="narrow", route_prefix="/narrow")
    try:
        url = f"{application.url}/narrow"
        wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200, "the second ingress is not ready")
        body = make_dicom(gradient())
        with ThreadPoolExecutor(20) as pool:
            posted = list(pool.map(lambda _: httpx.post(f"{url}/v1/predict", content=body, timeout=120), range(40)))
        assert {answer.status_code for answer in posted} == {200, 503}
        shed = [answer for answer in posted if answer.status_code == 503]
        assert all(
            int(answer.headers["retry-after"]) > 0 and answer.json()["reason"] == "unavailable" for answer in shed
        )
    finally:
        serve.delete("narrow")


@pytest.mark.long
def test_replicas_follow_the_load_and_share_declared_gpus(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.integration.declared_gpus", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.mark.long
def test_a_job_on_two_replicas_gives_the_rows_of_one(
    whole: Outcome, large_archive: str, published: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.integration.two_replicas", large_archive, published, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert min(found["shares"]) > 0.1, "a replica had next to nothing to do"
    run = Run.open(open_store(found["run"]))
    assert run.spec.engine == whole.run.spec.engine
    assert rows(run).equals(rows(whole.run))
    assert not verify_run(run)
