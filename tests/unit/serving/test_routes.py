"""HTTP of the service, driven by a client made from its OpenAPI document; every answer is one that this promises."""

from __future__ import annotations

import ast
import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import httpx2
import jsonschema
import numpy as np
import pytest
from aiopenapi3 import OpenAPI
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import cxrgaze_ray
from cxrgaze_ray.config.serve_file import IngressSettings
from cxrgaze_ray.models.settings import Answer
from cxrgaze_ray.schemas import CLASSES, Reason
from cxrgaze_ray.serving import routes
from cxrgaze_ray.serving.contract import EXAMPLES, REFUSALS, ClassName, ModelDescription, example
from cxrgaze_ray.serving.routes import make_api
from tests import asgi
from tests.dicom_files import gradient, make_dicom, picture
from tests.service_here import ServiceHere

PACKAGE = Path(cxrgaze_ray.__file__).parent
TOKEN = "a-long-random-string"
SOUND = make_dicom(gradient())
LATERAL = make_dicom(gradient(), ViewPosition="LL")


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceHere]:
    made = ServiceHere()
    yield made
    made.close()


class Client(asgi.Client):
    """Holds every answer against the document."""

    def __init__(self, api: FastAPI) -> None:
        super().__init__(api)
        self.document: dict[str, Any] = api.openapi()

    async def _ask(self, method: str, path: str, how: dict[str, Any]) -> httpx.Response:
        answer = await super()._ask(method, path, how)
        self._check(method, answer)
        return answer

    def _check(self, method: str, answer: httpx.Response) -> None:
        route = self.document["paths"].get(answer.url.path, {}).get(method.lower())
        if route is None:
            return
        promised = route["responses"][str(answer.status_code)]
        kind = answer.headers["content-type"]
        assert kind in promised["content"]
        assert promised.get("headers", {}).keys() <= {name.title() for name in answer.headers}
        if kind == "application/json":
            schema = promised["content"][kind]["schema"] | {"components": self.document["components"]}
            jsonschema.validate(answer.json(), schema)


@pytest.fixture
def client(service: ServiceHere) -> Client:
    return Client(make_api(service, IngressSettings(max_batch=4)))


def form(*files: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"DOE^JANE-{index}.dcm", file)) for index, file in enumerate(files)]


def test_one_picture_comes_back_with_what_was_asked_for(client: Client) -> None:
    plain = client.post("/v1/predict", content=SOUND).json()
    assert plain["prediction"] == max(plain["probabilities"], key=plain["probabilities"].__getitem__)
    assert "picture" not in plain
    assert "grad_cam" not in plain
    full = client.post("/v1/predict?cam=true&picture=true", content=SOUND).json()
    assert full.pop("grad_cam")["target"] in CLASSES
    shown = full.pop("picture")
    assert full == plain
    with Image.open(io.BytesIO(base64.b64decode(shown["png_base64"]))) as image:
        levels = np.asarray(image)
    assert levels.shape == (640, 512)
    part = shown["shown"]
    inside = levels[part["top"] :, part["left"] :][: part["height"], : part["width"]]
    assert levels.sum() == inside.sum(), "what is not shown is padding"
    assert inside[0].max() > 0
    assert inside[:, 0].max() > 0


def test_a_batch_has_one_row_for_each_file_in_its_order(client: Client) -> None:
    alone = client.post("/v1/predict", content=SOUND).json()
    answer = client.post("/v1/predict/batch", files=form(SOUND, LATERAL, b"no picture" * 20, b""))
    assert answer.status_code == 200
    rows = answer.json()["rows"]
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    assert [row["status"] for row in rows] == ["scored", "skipped", "failed", "failed"]
    assert [row["reason_code"] for row in rows] == [None, "lateral_view", "not_an_image", "empty_file"]
    assert {name: rows[0][name] for name in ("probabilities", "saliency")} == {
        name: alone[name] for name in ("probabilities", "saliency")
    }
    assert "DOE" not in answer.text


@pytest.mark.parametrize(
    ("how", "code", "reason"),
    [
        ({"files": form(*[b"x"] * 5)}, 413, "too_many_images"),
        ({"files": form(*[b"x"] * 40)}, 400, "not_a_form"),
        ({"content": SOUND}, 415, "not_a_form"),
        ({"files": {"a": (None, b"a field")}}, 400, "not_a_form"),
        (
            {"content": b"--b\r\n\r\nx", "headers": {"content-type": "multipart/form-data; boundary=b"}},
            400,
            "not_a_form",
        ),
        ({"files": form(bytes(2 * 2**20))}, 413, "too_large"),
    ],
    ids=["too many", "far too many", "no form", "no file", "cut off", "too large"],
)
def test_a_batch_that_is_none_is_refused_as_a_whole(
    service: ServiceHere, how: dict[str, Any], code: int, reason: str
) -> None:
    client = Client(make_api(service, IngressSettings(max_batch=4, max_body_mib=1)))
    answer = client.post("/v1/predict/batch", **how)
    assert (answer.status_code, answer.json()["reason"]) == (code, reason)


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/predict/batch"])
def test_an_endless_body_is_read_to_its_bound_and_no_further(service: ServiceHere, path: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 2**16
            yield bytes(2**16)

    answer = Client(make_api(service, IngressSettings(max_body_mib=1))).post(path, content=endless())
    assert (answer.status_code, answer.json()["reason"]) == (413, "too_large")
    assert sent <= 2**20 + 2**16


def test_a_model_that_is_lost_within_a_batch_refuses_it_and_makes_no_row(service: ServiceHere, client: Client) -> None:
    service.asked, service.lost = 0, 1
    try:
        answer = client.post("/v1/predict/batch", files=form(SOUND, SOUND, SOUND))
    finally:
        service.lost = None
    assert (answer.status_code, answer.json()["reason"]) == (503, "model_unavailable")
    assert answer.headers["retry-after"] == "2"
    assert client.post("/v1/predict/batch", files=form(SOUND)).json()["rows"][0]["status"] == "scored"


def test_a_service_runs_before_it_is_ready(service: ServiceHere, client: Client) -> None:
    before, service.serving = service.serving, None
    try:
        assert client.get("/healthz").status_code == 200
        for answer in (client.get("/readyz"), client.get("/v1/model"), client.post("/v1/predict", content=SOUND)):
            assert (answer.status_code, answer.json()["reason"]) == (503, "not_ready")
    finally:
        service.serving = before
    assert client.get("/readyz").json() == {"status": "ok"}


def test_a_service_whose_replicas_are_gone_is_not_ready(service: ServiceHere, client: Client) -> None:
    service.reached = False
    try:
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["reason"]) == (503, "model_unavailable")
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/model").status_code == 200
    finally:
        service.reached = True


@pytest.mark.parametrize("given", ["", "Bearer wrong", f"Basic {TOKEN}"])
def test_without_the_token_nothing_of_v1_is_told(service: ServiceHere, given: str) -> None:
    client = Client(make_api(service, IngressSettings(page=True), TOKEN))
    for method, path in (("get", "/v1/model"), ("post", "/v1/predict?cam=nonsense"), ("post", "/v1/predict/batch")):
        answer = getattr(client, method)(path, headers={"Authorization": given})
        assert (answer.status_code, answer.json()["reason"]) == (401, "unauthorised")
    assert client.get("/v1/model", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    # the same bytes for everybody: the page asks for the token itself
    assert {client.get(path).status_code for path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json")} == {200}


@pytest.mark.parametrize("query", ["cam=yes", "cam=", "picture=1", "cam=true&picture=perhaps"])
def test_a_query_is_true_or_false(client: Client, query: str) -> None:
    answer = client.post(f"/v1/predict?{query}", content=SOUND)
    assert (answer.status_code, answer.json()["reason"]) == (400, "bad_query")
    assert "is true or false." in answer.json()["error"]


def test_answers_are_kept_by_no_cache_and_taken_for_nothing_else(client: Client) -> None:
    for answer in (client.post("/v1/predict", content=SOUND), client.post("/v1/predict", content=b"")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_pages_are_there_only_where_they_are_asked_for(service: ServiceHere) -> None:
    paths = ("/", "/docs", "/static/try.js")
    without = Client(make_api(service, IngressSettings()))
    assert [without.get(path).status_code for path in paths] == [404, 404, 404]
    shown = Client(make_api(service, IngressSettings(page=True)))
    assert [shown.get(path).status_code for path in paths] == [200, 200, 200]
    policy = shown.get("/").headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    for name in ("/static/pages.py", "/static/..%2fpages.py", "/static/%2e%2e/pages.py", "/static/"):
        assert shown.get(name).status_code == 404


def test_a_page_below_a_prefix_is_found_with_its_slash(service: ServiceHere) -> None:
    api = make_api(service, IngressSettings(page=True))

    async def run() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(app=api, root_path="/narrow")
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/narrow/"), await client.get("/narrow/openapi.json")

    page, document = asyncio.run(run())
    assert page.status_code == 200
    assert document.json()["servers"] == [{"url": "/narrow"}]


@pytest.mark.filterwarnings("ignore")  # of the library that makes the client
def test_a_client_made_from_the_document_drives_the_service(service: ServiceHere) -> None:
    api = make_api(service, IngressSettings(), TOKEN)

    class Session(httpx2.AsyncClient):
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__(transport=httpx2.ASGITransport(app=api))

    async def run() -> None:
        described = api.openapi() | {"servers": [{"url": "/"}]}  # as OpenAPI means it where none is named
        made: Any = OpenAPI("http://x/openapi.json", described, session_factory=Session, use_operation_tags=False)
        made.authenticate(HTTPBearer=TOKEN)
        assert (await made._.health()).status == "ok"
        assert (await made._.readiness()).status == "ok"
        model = await made._.model()
        assert (model.name, model.version, model.grad_cam) == ("cxrgaze", "v0001", True)
        file = ("image.dcm", SOUND, "application/dicom")
        found = await made._.predict(parameters={"cam": True}, data=[("file", file)])
        assert found.prediction in CLASSES
        assert found.grad_cam.target in CLASSES
        assert found.saliency.affine.rows == gradient().shape[0]
        batch = await made._.predict_batch(data=[("files", file), ("files", ("b", b"x" * 99, "image/png"))])
        assert batch.rows[0].probabilities == found.probabilities
        rows = batch.model_dump(mode="json")["rows"]
        assert [(row["status"], row["reason_code"]) for row in rows] == [("scored", None), ("failed", "not_an_image")]

    asyncio.run(run())


def test_the_document_says_what_there_is(client: Client) -> None:
    document = client.get("/openapi.json").json()
    assert document == routes.document()
    assert document["paths"].keys() == {"/healthz", "/readyz", "/v1/model", "/v1/predict", "/v1/predict/batch"}
    assert {*get_args(ClassName)} == set(CLASSES)
    assert {*get_args(Answer)} == {*get_args(get_args(ModelDescription.model_fields["predicts"].annotation)[0])}
    told = document["info"]["description"]
    assert "Deprecation" in told
    assert "not for clinical use" in told
    reasons = document["components"]["schemas"]["Refusal"]["properties"]["reason"]["description"]
    assert [reason for reason in (*REFUSALS, *Reason) if f"- `{reason}`: " not in reasons] == []
    assert len(told.splitlines()) < 30, "the routes come after it"
    titles = [one["summary"] for methods in document["paths"].values() for one in methods.values()]
    assert titles[:1] + titles[-1:] == [
        "Answer as soon as the application runs, whether or not a model is loaded.",
        "Score the files of a form, all by the same weights.",
    ]
    predict = document["paths"]["/v1/predict"]["post"]
    assert predict["responses"]["200"]["content"].keys() == {"application/json", "image/png"}
    assert {"application/octet-stream", "multipart/form-data"} <= predict["requestBody"]["content"].keys()
    assert "Retry-After" in predict["responses"]["503"]["headers"]
    assert {one["name"]: one["schema"]["type"] for one in predict["parameters"]} == {
        "cam": "boolean",
        "picture": "boolean",
    }
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for operation in (one for path in document["paths"].values() for one in path.values()):
        for code, answer in operation["responses"].items():
            assert "example" in answer["content"]["application/json"], (operation["operationId"], code)


def test_every_code_that_a_route_or_the_proxy_refuses_with_is_told() -> None:
    said = set()
    for path in [*PACKAGE.glob("serving/*.py"), *PACKAGE.glob("http/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "refuse":
                said |= {one.value for one in node.args[2:3] if isinstance(one, ast.Constant)}
    assert len(said) > 15
    assert said <= REFUSALS.keys()


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_every_example_is_one_of_its_kind(kind: Any) -> None:
    assert kind.model_validate_json(json.dumps(example(kind))).json_bytes()


KINDS = st.sampled_from(
    ["", "application/dicom", "multipart/form-data; boundary=b", "multipart/form-data", "a/b; \xe9"]
)
PARTS = st.lists(
    st.sampled_from([b"--b", b"\r\n", b"--", b'Content-Disposition: form-data; filename="x"', SOUND[:200], b"\0"])
)
ACCEPTED = st.sampled_from(["", "image/png", "application/json", "text/html", "*/*", "\xe9"])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/v1/predict", "/v1/predict/batch"]),
    query=st.sampled_from(["", "?cam=true", "?picture=true&cam=false", "?cam=", "?x=1"]),
    kind=KINDS,
    accepted=ACCEPTED,
    body=st.one_of(PARTS.map(b"".join), st.binary(max_size=300)),
)
def test_whatever_is_sent_is_answered_as_promised(
    client: Client, path: str, query: str, kind: str, accepted: str, body: bytes
) -> None:
    headers = {"content-type": kind.encode("latin-1"), "accept": accepted.encode("latin-1")}
    answer = client.post(path + query, content=body, headers=headers)
    assert answer.status_code < 500
    assert answer.status_code == 200 or answer.json()["reason"] in {*REFUSALS, *Reason}


def test_a_model_of_classes_only_has_no_map(client: Client) -> None:
    service = ServiceHere("dnet201", decoders=1)
    try:
        client = Client(make_api(service, IngressSettings()))
        found = client.post("/v1/predict", content=picture(gradient(bits=8), "PNG")).json()
        assert "saliency" not in found
        assert found["model"]["predicts"] == ["classes"]
        refused = client.post("/v1/predict", content=SOUND, headers={"Accept": "image/png"})
        assert (refused.status_code, refused.json()["reason"]) == (406, "no_saliency")
    finally:
        service.close()
