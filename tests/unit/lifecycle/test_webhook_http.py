"""The webhook's HTTP and settings: nobody without the token, nothing too large."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cxrgaze_ray.config.serve_file import ServeFile
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.lifecycle.webhook.app import watch
from cxrgaze_ray.lifecycle.webhook.groups import Triggers
from cxrgaze_ray.lifecycle.webhook.routes import make_api
from cxrgaze_ray.lifecycle.webhook.service import Service
from cxrgaze_ray.lifecycle.webhook.settings import WebhookSettings, read_token
from cxrgaze_ray.storage import LocalStore
from tests.alertmanager import FakeJobs, notification
from tests.asgi import Client

ROOT = Path(__file__).parents[3]
TOKEN = "a-long-random-string"
SETTINGS = WebhookSettings(config="s3://models/retrain.yaml")


@pytest.fixture
def jobs() -> FakeJobs:
    return FakeJobs()


@pytest.fixture
def client(tmp_path: Path, jobs: FakeJobs) -> Client:
    service = Service(SETTINGS, Triggers(LocalStore(str(tmp_path)), SETTINGS.name), jobs)
    return Client(make_api(service, TOKEN, max_body_bytes=4096))


AUTHORISED = {"Authorization": f"Bearer {TOKEN}"}


def test_http_carries_it_all(client: Client) -> None:
    accepted = client.post("/v1/retrain", content=notification(), headers=AUTHORISED)
    assert accepted.status_code == 202
    submission_id = accepted.json()["submission_id"]
    assert client.get(f"/v1/retrain/{submission_id}", headers=AUTHORISED).json()["state"] == "running"
    late = client.post("/v1/retrain", content=notification(group="{}:{another}"), headers=AUTHORISED)
    assert (late.status_code, late.headers["Retry-After"]) == (429, "86400")
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/v1/retrain", headers=AUTHORISED).status_code == 405
    assert client.get("/docs").status_code == 404


@pytest.mark.parametrize(
    "given",
    [
        "",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer{TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer",
        "Bearer \xe9",
    ],
)
def test_nobody_without_the_token(client: Client, jobs: FakeJobs, given: str) -> None:
    headers = {"Authorization": given.encode("latin-1")}
    for refused in (
        client.post("/v1/retrain", content=notification(), headers=headers),
        client.get("/v1/retrain/cxrgaze-retrain-0123456789abcdef", headers=headers),
    ):
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert refused.json()["reason"] == "unauthorised"
        assert TOKEN not in refused.text
    assert jobs.jobs == {}


@pytest.mark.parametrize("given", [f"bearer {TOKEN}", f"BEARER {TOKEN}", f"Bearer   {TOKEN}"])
def test_the_scheme_may_be_written_in_any_case(client: Client, given: str) -> None:
    unknown = client.get("/v1/retrain/cxrgaze-retrain-0123456789abcdef", headers={"Authorization": given})
    assert unknown.status_code == 404


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused(client: Client, jobs: FakeJobs, declared: bool) -> None:
    whole = notification(filler="x" * 5000)

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), 3000):
            yield whole[start : start + 3000]

    refused = client.post("/v1/retrain", content=whole if declared else parts(), headers=AUTHORISED)
    assert (refused.status_code, refused.json()["reason"], jobs.jobs) == (413, "too_large", {})


def test_a_failure_of_ours_is_answered_and_counted(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counted: list[str] = []
    monkeypatch.setattr("cxrgaze_ray.telemetry.record", lambda metric, code: counted.append(f"{metric.name} {code}"))
    monkeypatch.setattr(Service, "receive", lambda service, body: 1 / 0)
    failed = client.post("/v1/retrain", content=notification(), headers=AUTHORISED)
    assert (failed.status_code, failed.json()["reason"]) == (500, "bug")
    assert "division" not in failed.text
    assert counted == ["cxrgaze_webhook_requests 500"]


def test_the_gauges_go_on_whatever_goes_wrong_with_a_look(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = iter([ValueError("s3://secret"), OSError(), None])
    after = threading.Event()

    class Watched:
        def latest(self) -> None:
            found = next(looks, None)
            if found is not None:
                raise found
            after.set()

    async def run() -> None:
        watching = asyncio.create_task(watch(Watched(), every_s=0))  # type: ignore[arg-type]
        assert await asyncio.to_thread(after.wait, 30)
        assert not watching.done()
        watching.cancel()

    with caplog.at_level(logging.ERROR, "ray.serve"):
        asyncio.run(run())
    assert [text.count("Error at test_webhook_http.py") for text in caplog.messages] == [1, 1]
    assert "secret" not in caplog.text


def test_no_token_no_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="CXRGAZE_WEBHOOK_TOKEN"):
        read_token()
    monkeypatch.setenv("CXRGAZE_TOKEN", "of-the-model-alone")
    with pytest.raises(ConfigError, match="needs a bearer token"):
        read_token()
    monkeypatch.setenv("CXRGAZE_WEBHOOK_TOKEN", "of-the-webhook-alone")
    assert read_token() == "of-the-webhook-alone"


@pytest.mark.parametrize(
    "given", ["short", " a-long-random-string", "a-long-random-string\n", "a-long-random-str\u00efng"]
)
def test_a_token_that_is_guessed_or_can_not_be_sent_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("CXRGAZE_WEBHOOK_TOKEN", given)
    with pytest.raises(ConfigError, match="CXRGAZE_WEBHOOK_TOKEN has fewer than 16 characters, or a space") as refused:
        read_token()
    assert given not in str(refused.value)
    monkeypatch.setenv("CXRGAZE_TOKEN", given)
    with pytest.raises(ConfigError, match="CXRGAZE_TOKEN has fewer"):
        ServeFile().check_exposure()


def test_a_token_that_scores_can_not_have_a_model_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CXRGAZE_TOKEN", "CXRGAZE_WEBHOOK_TOKEN"):
        monkeypatch.setenv(name, "one-for-all-of-them")
    with pytest.raises(ConfigError, match="whoever may score"):
        read_token()


def test_the_example_is_one_that_is_read() -> None:
    settings = WebhookSettings.from_yaml((ROOT / "jobs" / "webhook.yaml").read_text())
    assert (settings.host, settings.url) == ("127.0.0.1", "http://127.0.0.1:8001")
    assert settings.alerts == SETTINGS.alerts


@pytest.mark.parametrize("wrong", ["name: ../x", "least_hours_between: -1", "route_prefix: x", "token: abc", "port: 0"])
def test_wrong_settings_are_named(wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong.partition(":")[0]):
        WebhookSettings.from_yaml(f"config: c\n{wrong}")
