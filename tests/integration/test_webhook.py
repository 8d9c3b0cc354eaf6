"""The webhook beside the model, on one Ray Serve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ray import serve

from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.lifecycle.webhook import APPLICATION, WebhookSettings, start_webhook
from cxrgaze_ray.serving import ServeFile
from tests.alertmanager import alert, notification
from tests.integration.conftest import WEBHOOK_TOKEN

pytestmark = pytest.mark.long


@pytest.fixture
def settings(application: ServeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WebhookSettings:
    """Return settings whose job server does not answer."""
    monkeypatch.setenv("CXRGAZE_WEBHOOK_TOKEN", WEBHOOK_TOKEN)
    return WebhookSettings(
        config="retrain.yaml",
        registry=str(tmp_path),
        port=application.http_options.port,
        route_prefix="/webhook",
        jobs_address="http://127.0.0.1:1",
    )


@pytest.fixture
def client(settings: WebhookSettings) -> Iterator[httpx.Client]:
    assert start_webhook(settings)  # its bodies are bounded
    with httpx.Client(base_url=settings.url, timeout=60) as client:
        yield client
    serve.delete(APPLICATION)


def test_it_shares_ray_serve_with_the_model(client: httpx.Client, application: ServeFile, tmp_path: Path) -> None:
    body, authorised = notification(), {"Authorization": f"Bearer {WEBHOOK_TOKEN}"}
    assert client.post("/v1/retrain", content=body).status_code == 401
    assert client.post("/v1/retrain", content=bytes(2**19), headers=authorised).status_code == 413
    resolved = notification(alert(status="resolved"))
    assert client.post("/v1/retrain", content=resolved, headers=authorised).status_code == 200
    assert list(tmp_path.iterdir()) == []
    refused = client.post("/v1/retrain", content=body, headers=authorised)
    assert (refused.status_code, refused.json()["reason"]) == (503, "unavailable")
    assert "job server" in refused.json()["error"]
    assert len(list(tmp_path.glob("cxrgaze/retraining/triggers/*"))) == 1  # claimed, to be submitted by the next repeat
    assert httpx.get(f"{application.url}/v1/model", timeout=60).status_code == 200


def test_it_does_not_take_the_model_s_place(settings: WebhookSettings, application: ServeFile) -> None:
    with pytest.raises(ConfigError, match="route_prefix"):
        start_webhook(settings.model_copy(update={"route_prefix": "/"}))
    assert httpx.get(f"{application.url}/v1/model", timeout=60).status_code == 200
