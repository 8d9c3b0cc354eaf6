"""What `cxrgaze webhook` says of the cluster it was given."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from cxrgaze_ray.cli.console import UNBOUNDED
from cxrgaze_ray.cluster.connection import PROXY_VARIABLE, ClusterSettings
from cxrgaze_ray.lifecycle.webhook import WebhookSettings


@pytest.mark.parametrize("bounded", [True, False])
def test_a_cluster_that_bounds_no_bodies_is_warned_of(bounded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    command = importlib.import_module("cxrgaze_ray.cli.webhook")
    said: list[str] = []
    cluster = SimpleNamespace(address="head:6379", logs=None)
    monkeypatch.setattr("cxrgaze_ray.cluster.connection.connect", lambda _: nullcontext(cluster))
    monkeypatch.setattr("cxrgaze_ray.lifecycle.webhook.start_webhook", lambda _: bounded)
    monkeypatch.setattr("cxrgaze_ray.lifecycle.webhook.stop_webhook", lambda: None)
    monkeypatch.setattr(command, "stay", lambda _: None)
    monkeypatch.setattr(command, "say", said.append)
    command._host(WebhookSettings(config="retrain.yaml", registry="registry"), ClusterSettings(address="head:6379"))
    assert (UNBOUNDED in said) != bounded
    assert PROXY_VARIABLE in UNBOUNDED
