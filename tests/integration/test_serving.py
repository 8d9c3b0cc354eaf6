"""The HTTP interface, on a real Serve application."""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image

from cxrgaze_ray.cluster.connection import Cluster
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.export import export_run
from cxrgaze_ray.gaze import saliency as saliency_maps
from cxrgaze_ray.lifecycle.monitoring import monitor
from cxrgaze_ray.models.bundle import make_bundle, read_bundle
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.settings import architecture
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.phantoms import PhantomReport
from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.reports.run_report import run_report
from cxrgaze_ray.schemas import ANSWERS, CLASSES
from cxrgaze_ray.scoring.driver import ScoreSettings, score_archive
from cxrgaze_ray.scoring.runs import Request, ScoreOptions, verify_run
from cxrgaze_ray.serving import ServeFile, start_http
from cxrgaze_ray.storage import LocalStore, open_store
from tests.dicom_files import gradient, make_dicom, picture
from tests.integration.conftest import same_cluster


@pytest.fixture
def client(application: ServeFile) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=application.url, timeout=60) as client:
        yield client


def file_of(phantoms: tuple[str, PhantomReport], suffix: str) -> bytes:
    """Return a sound file of an archive."""
    archive, report = phantoms
    planted = {Path(archive, fault.path) for fault in report.planted}
    return next(path for path in sorted(Path(archive, "files").rglob(f"*{suffix}")) if path not in planted).read_bytes()


@pytest.mark.parametrize("suffix", [".dcm", ".jpg"])
def test_a_radiograph_is_scored_as_the_predictor_alone_scores_it(
    client: httpx.Client, phantoms: tuple[str, PhantomReport], published: str, suffix: str
) -> None:
    body = file_of(phantoms, suffix)
    answer = client.post("/v1/predict", content=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    with Decoder("cxrgaze-v1", reading=Reading(frontal_only=True)) as decoder:
        image = decoder.decode(body).pixels
    pin = Registry(open_store(published)).resolve("cxrgaze@champion")
    expected = Predictor.from_bundle(read_bundle(open_store(pin.uri))).predict(image[None])
    assert expected.probabilities_BK is not None
    assert list(found["probabilities"].values()) == pytest.approx(expected.probabilities_BK[0].tolist(), abs=1e-6)
    assert found["prediction"] == max(found["probabilities"], key=found["probabilities"].__getitem__)
    assert found["model"]["version"] == pin.version
    assert found["model"]["weights_sha256"] == pin.weights_sha256
    assert found["profile"] == "cxrgaze-v1"
    with Image.open(io.BytesIO(base64.b64decode(found["saliency"]["png_base64"]))) as saliency:
        assert (saliency.size, saliency.mode) == ((256, 320), "L")


def test_a_16_bit_png_is_scored(client: httpx.Client) -> None:
    assert client.post("/v1/predict", content=picture(gradient(bits=16), "PNG")).status_code == 200


def test_the_map_alone_comes_as_an_image(client: httpx.Client) -> None:
    answer = client.post("/v1/predict", content=make_dicom(gradient()), headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as saliency:
        assert np.asarray(saliency).max() == 255


def test_grad_cam_comes_with_the_answer_on_request(
    client: httpx.Client, phantoms: tuple[str, PhantomReport], published: str
) -> None:
    body = file_of(phantoms, ".dcm")
    plain, told = (client.post("/v1/predict", params=query, content=body).json() for query in ({}, {"cam": "true"}))
    cam = told.pop("grad_cam")
    assert told == plain
    with Decoder("cxrgaze-v1", reading=Reading(frontal_only=True)) as decoder:
        image = decoder.decode(body).pixels
    pin = Registry(open_store(published)).resolve("cxrgaze@champion")
    expected = Predictor.from_bundle(read_bundle(open_store(pin.uri))).predict(image[None], cam=True)
    assert expected.cam_BHW is not None
    assert expected.cam_target_B is not None
    assert cam["target"] == CLASSES[expected.cam_target_B[0]]
    shown = saliency_maps.decode_relative(base64.b64decode(cam["png_base64"]))
    np.testing.assert_allclose(shown, expected.cam_BHW[0], atol=0.02)
    assert client.post("/v1/predict?cam=perhaps", content=body).json()["reason"] == "bad_query"


def test_a_form_s_file_is_scored_and_another_form_is_told_what_to_send(client: httpx.Client) -> None:
    body = make_dicom(gradient())
    alone = client.post("/v1/predict", content=body).json()["probabilities"]
    assert client.post("/v1/predict", files={"file": ("x.dcm", body)}).json()["probabilities"] == alone
    refused = client.post("/v1/predict", data={"file": "x"}, files={"a": ("", b"")}).json()
    assert "curl -F" in refused["error"]


def test_slow_uploads_take_nothing_from_others(client: httpx.Client, application: ServeFile) -> None:
    """More of them than requests were taken on before: each holds a few bytes, and its place in the line of bodies."""
    body = make_dicom(gradient())
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\nx"
    with ExitStack() as stack:
        address = ("127.0.0.1", application.http_options.port)
        slow = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(60)]
        for one in slow:
            one.sendall(head)
        assert client.get("/healthz").status_code == 200
        assert client.post("/v1/predict", content=body).status_code == 200
        answer = slow[0].makefile("rb")
        assert answer.readline().split()[1] == b"408"
        assert b'"too_slow"' in answer.read()
    assert client.post("/v1/predict", content=body).status_code == 200


def test_model_and_health_are_told(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    model = client.get("/v1/model").json()
    assert model["trained"] is False
    assert model["classes"] == ["normal", "heart_failure", "pneumonia"]
    assert "not for clinical use" in model["intended_use"]


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        (b"", 400, "empty_file"),
        (b"this is no radiograph" * 20, 415, "not_an_image"),
        (make_dicom(gradient())[:2500], 422, "truncated"),
        (make_dicom(gradient(), ViewPosition="LL"), 422, "lateral_view"),
        (picture(np.full((40, 40, 3), (200, 20, 90), np.uint8), "PNG"), 422, "not_greyscale"),
        (make_dicom(np.full((40, 40), 7, np.uint16)), 422, "constant_image"),
    ],
)
def test_a_bad_body_gets_one_sentence_and_its_reason(client: httpx.Client, body: bytes, code: int, reason: str) -> None:
    answer = client.post("/v1/predict", content=body)
    assert (answer.status_code, answer.json()["reason"]) == (code, reason)
    assert answer.json()["error"].endswith(".")
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("declared", [True, False])
def test_an_oversized_body_is_refused_before_it_is_read(client: httpx.Client, declared: bool) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(9):
            yield bytes(2**20)

    content = bytes(9 * 2**20) if declared else parts()
    answer = client.post("/v1/predict", content=content)
    assert (answer.status_code, answer.json()["reason"]) == (413, "too_large")


def test_headers_without_end_are_read_to_their_bound(client: httpx.Client, application: ServeFile) -> None:
    where, sent = (application.http_options.host, application.http_options.port), 0
    with socket.create_connection(where, timeout=30) as attacker, contextlib.suppress(ConnectionError):
        attacker.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: here\r\nX-Long: ")
        while sent < 2**26:
            attacker.sendall(b"x" * 2**16)
            sent += 2**16
    assert sent < 2**24  # what the system's buffers hold on both sides is on top of the bound
    assert client.get("/healthz").status_code == 200


def test_unknown_routes_and_methods_are_refused(client: httpx.Client) -> None:
    assert client.get("/v1/nothing").status_code == 404
    assert client.get("/v1/predict").status_code == 405


def test_many_at_once_get_their_own_answers(client: httpx.Client) -> None:
    bodies = [make_dicom((gradient() * share).astype(np.uint16)) for share in (1, 0.9, 0.8, 0.7)]
    bodies += [b"no radiograph" * 9]
    alone = [client.post("/v1/predict", content=body).json().get("probabilities") for body in bodies]
    with ThreadPoolExecutor(5) as pool:
        answers = pool.map(lambda body: client.post("/v1/predict", content=body).json(), bodies * 3)
        together = [answer.get("probabilities") for answer in answers]
    assert together == alone * 3


def test_a_moved_champion_is_followed_to_another_system(
    client: httpx.Client, published: str, phantoms: tuple[str, PhantomReport], tmp_path: Path
) -> None:
    ledger = Registry(open_store(published))
    before = client.get("/v1/model").json()["version"]
    pin = ledger.publish(make_bundle(build(architecture("dnet201", "tiny"), 21), "cxrgaze", trained=False))
    ledger.promote("cxrgaze", pin.version)
    try:
        wait_for_version(client, pin.version)
        found = client.post("/v1/predict", content=make_dicom(gradient())).json()
        assert found["model"]["predicts"] == ["classes"]
        assert (found.keys() & {"prediction", "probabilities", "saliency"}) == {"prediction", "probabilities"}
        picture = client.post("/v1/predict", content=make_dicom(gradient()), headers={"accept": "image/png"})
        assert (picture.status_code, picture.json()["reason"]) == (406, "no_saliency")
        # an archive that is scored meanwhile keeps the version it names
        request = Request(archive=phantoms[0], model=f"cxrgaze@{before}", engine="float32")
        outcome = score_archive(request, str(tmp_path), published, same_cluster, settings=ScoreSettings(decoders=2))
        assert set(outcome.run.summary()["bundle_version"].to_pylist()) == {before}
        assert client.get("/v1/model").json()["version"] == pin.version
        check_run_of_classes(phantoms[0], str(tmp_path), published)
    finally:
        ledger.rollback("cxrgaze")
        wait_for_version(client, before)


def check_run_of_classes(archive: str, out: str, registry: str) -> None:
    """Score with a champion that predicts no saliency, and follow its run to everything that reads one."""
    request = Request(archive=archive, model="cxrgaze@champion", engine="float32", options=ScoreOptions(limit=24))
    run = score_archive(request, out, registry, same_cluster, settings=ScoreSettings(decoders=2)).run
    assert run.spec.predicts == ("classes",)
    assert verify_run(run) == []
    rows = pa.concat_tables(run.tables())
    scored = rows.filter(pc.equal(rows["status"], "scored"))
    assert scored.num_rows > 10
    assert {scored[name].null_count for name in ANSWERS["classes"]} == {0}
    assert {rows[name].null_count for name in ANSWERS["saliency"]} == {rows.num_rows}
    page = run_report(run, figures=1)
    assert "classes only" in page
    assert "predicted gaze" not in page
    assert export_run(run, "csv", LocalStore(f"{out}/csv")).written == 2
    assert {finding.family for finding in monitor([run], [run]).findings} >= {"scores", "predictions"}


def wait_for_version(client: httpx.Client, version: str) -> None:
    end = time.monotonic() + 60
    while client.get("/v1/model").json()["version"] != version:
        assert time.monotonic() < end, "the champion moved, and the application did not follow"
        assert client.post("/v1/predict", content=make_dicom(gradient())).status_code == 200


def test_the_network_is_not_served_to_others_without_a_token(cluster: Cluster) -> None:
    data = ServeFile().model_dump()
    data["http_options"]["host"] = "0.0.0.0"
    with pytest.raises(ConfigError, match="no token"):
        start_http(ServeFile.build(**data))
