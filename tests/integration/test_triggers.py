"""A gauge goes up, Prometheus's alert fires, Alertmanager posts, and a Ray job retrains: once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from cxrgaze_ray.cluster.ports import free_port
from cxrgaze_ray.errors import EXIT_INTERRUPTED
from cxrgaze_ray.lifecycle.retraining.workspace import retrainings
from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.storage import LocalStore
from tests.labelled_store import write_store
from tests.monitor_reports import drifted
from tests.validators import find_tool

ROOT = Path(__file__).parents[2]
TOKEN = "a-long-random-string"
VERDICTS = {"done", "rejected", "cannot_tell"}
END_STATES = VERDICTS | {"failed", "ask", "stopped"}


@dataclass(frozen=True)
class Retraining:
    """What the webhook starts: its settings, and the registry that it retrains in."""

    settings: dict[str, Any]
    registry: Registry


@pytest.fixture
def retraining(tmp_path: Path) -> Retraining:
    """Publish a champion, label a few images, have the monitor report a drift, and write down what is asked for."""
    registry = Registry(LocalStore(str(tmp_path / "registry")))
    pin = registry.publish(make_bundle(build(PRESETS["tiny"], 5), "cxrgaze", trained=False))
    registry.promote("cxrgaze", pin.version, reason="the first one")
    write_store(tmp_path / "store", {"train": 12, "validation": 6, "test": 9})
    report, config = tmp_path / "report.json", tmp_path / "retrain.yaml"
    report.write_text(drifted(datetime.now(UTC).isoformat()).model_dump_json())
    least = {"least_new_patients": 1, "least_train_patients": 1, "least_test_patients": 1}
    asked = {
        "registry": registry.store.uri, "stores": [str(tmp_path / "store")], "reports": [str(report)],
        "policy": {"name": "test", "decide": least, "gate": {"rounds": 200}}, "phases": ["classifier"],
        "training": {"stages": {"classifier": {"epochs": 2}}},
    }  # fmt: skip
    config.write_text(yaml.safe_dump(asked))
    return Retraining({"config": str(config), "registry": registry.store.uri}, registry)


def wait_until(true: Callable[[], Any], what: str, seconds: float = 200) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, what
        time.sleep(0.5)
    return found


@contextmanager
def running(command: list[str], log: Path, code: int = 0, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block, and hold it to how it ends on Ctrl-C.

    What it says goes to a file, and to the test's output if it fails.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | environment, cwd=log.parent)
    try:
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == code, "it did not end well"
    except BaseException:
        print(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}")
        raise
    finally:
        process.kill()
        process.wait()


@dataclass
class Drift:
    """The monitor's gauges, as an exporter shows them."""

    port: int
    gauge: Gauge
    report: Gauge

    def set(self, value: float) -> None:
        self.gauge.labels(family="intensity", feature="p50").set(value)
        self.report.set_to_current_time()


@pytest.fixture
def drift() -> Iterator[Drift]:
    registry = CollectorRegistry()
    gauge = Gauge("cxrgaze_drift_alert", "1 where drift is found.", ["family", "feature"], registry=registry)
    report = Gauge("cxrgaze_monitor_time_seconds", "Unix time of the report.", registry=registry)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    found = Drift(server.server_port, gauge, report)
    found.set(0)
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass(frozen=True)
class Webhook:
    """The webhook as it runs: where it answers and shows metrics, and where its cluster keeps its files."""

    url: str
    metrics_port: int
    ray_folder: Path
    client: httpx.Client = field(repr=False)

    def state(self, submission_id: str) -> str:
        """Return what became of a job; unknown between its claim and its submission."""
        return str(self.client.get(f"/v1/retrain/{submission_id}").json().get("state", "unknown"))


@contextmanager
def hosted(settings: dict[str, Any], folder: Path) -> Iterator[Webhook]:
    """Host it as a user does, on a private cluster that takes jobs."""
    config, log, metrics_port = folder / "webhook.yaml", folder / "webhook.log", free_port()
    config.write_text(yaml.safe_dump(settings | {"port": free_port()}))
    command = [sys.executable, "-m", "cxrgaze_ray", "webhook", "--config", str(config)]
    command += ["--metrics-port", str(metrics_port)]
    environment = {"CXRGAZE_WEBHOOK_TOKEN": TOKEN, "PYTHONPATH": str(ROOT), "RAY_metrics_report_interval_ms": "1000"}
    with running(command, log, EXIT_INTERRUPTED, **environment) as process:
        said = r"may post to (\S+)/v1/retrain[\s\S]*Ray's logs are in (\S+)\."
        found = wait_until(
            lambda: process.poll() is not None or re.search(said, log.read_text()), "it did not start", 400
        )
        assert isinstance(found, re.Match)
        with httpx.Client(base_url=found[1], headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60) as client:
            yield Webhook(found[1], metrics_port, Path(found[2]), client)


@contextmanager
def alertmanager(webhook: Webhook, folder: Path) -> Iterator[int]:
    """Run Alertmanager with the example's routes, in a hurry."""
    token, config, port = folder / "token", folder / "alertmanager.yml", free_port()
    token.write_text(TOKEN)
    example = yaml.safe_load((ROOT / "infra/prometheus/alertmanager.yml").read_text())
    example["route"] |= {"group_wait": "1s", "group_interval": "2s", "repeat_interval": "4s"}
    (hook,) = next(one for one in example["receivers"] if one["name"] == "retrain")["webhook_configs"]
    hook["url"] = f"{webhook.url}/v1/retrain"
    hook["http_config"]["authorization"]["credentials_file"] = str(token)
    config.write_text(yaml.safe_dump(example))
    command = [find_tool("prometheus-alertmanager"), f"--config.file={config}", f"--storage.path={folder / 'am'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    with running(command, folder / "alertmanager.log"):
        yield port


@contextmanager
def prometheus(drift: Drift, webhook: Webhook, alertmanager_port: int, folder: Path) -> Iterator[str]:
    """Run Prometheus with the example's config and the real rules, in a hurry."""
    config, rules, port = folder / "prometheus.yml", folder / "rules.yml", free_port()
    ours = (ROOT / "infra/prometheus/rules.yml").read_text()
    rules.write_text(re.sub(r"^( +for:) .*$", r"\1 2s", ours, flags=re.M))
    example = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())
    example["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    example["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager_port}"]
    scraped = {one["job_name"]: one for one in example["scrape_configs"]}
    scraped["cxrgaze-service"]["static_configs"][0]["targets"] = [f"127.0.0.1:{webhook.metrics_port}"]
    scraped["cxrgaze-monitor"]["static_configs"][0]["targets"] = [f"127.0.0.1:{drift.port}"]
    chosen = [scraped["cxrgaze-service"], scraped["cxrgaze-monitor"]]
    config.write_text(yaml.safe_dump(example | {"scrape_configs": chosen}))
    command = [find_tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with running([*command, f"--web.listen-address=127.0.0.1:{port}"], folder / "prometheus.log"):
        yield f"http://127.0.0.1:{port}"


def ask(prometheus: str, query: str) -> float | None:
    """Return the value of a query, or None if it finds nothing or Prometheus is not there yet."""
    try:
        answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}, timeout=30)
    except httpx.HTTPError:
        return None
    if answer.status_code == 503:
        return None
    found = answer.json()["data"]["result"]
    return float(found[0]["value"][1]) if found else None


def notified(port: int, kind: str) -> float:
    """Return how many requests Alertmanager made of the webhook, or how many of them failed."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    found = re.search(rf'^alertmanager_notification_requests{kind}_total{{integration="webhook"}} (\S+)$', text, re.M)
    return float(found[1]) if found else 0.0


@pytest.mark.long
def test_drift_retrains_once(retraining: Retraining, drift: Drift, tmp_path: Path) -> None:
    triggers = Path(retraining.settings["registry"], "cxrgaze", "retraining", "triggers")
    with (
        hosted(retraining.settings, tmp_path) as webhook,
        alertmanager(webhook, tmp_path) as port,
        prometheus(drift, webhook, port, tmp_path) as metrics,
    ):
        wait_until(lambda: ask(metrics, "max(cxrgaze_drift_alert)") == 0, "the gauge was not scraped")
        assert ask(metrics, 'ALERTS{alertname="CxrgazeDrift"}') is None
        assert notified(port, "") == 0

        drift.set(1)
        (claim,) = wait_until(lambda: list(triggers.glob("*.json")), "nothing was accepted")
        submission_id = json.loads(claim.read_text())["submission_id"]
        wait_until(lambda: webhook.state(submission_id) in END_STATES, "the job did not end")
        assert webhook.state(submission_id) in VERDICTS
        (work,) = retrainings(retraining.registry.store.child("cxrgaze/retraining"))
        assert (work.spec.reason, work.spec.decision.action) == ("drift", "retrain")
        ended, gate = work.conclusion(), work.gate()
        assert ended is not None
        assert gate is not None
        assert webhook.state(submission_id) == {0: "done", 10: "rejected", 11: "cannot_tell"}[gate.exit_code]
        entries = [(one.action, one.outcome) for one in retraining.registry.history("cxrgaze")]
        assert entries[2:] == [("look", None), ("publish", None), ("gate", ended.outcome)]

        wait_until(lambda: notified(port, "") >= 3, "Alertmanager did not repeat itself")
        assert notified(port, "_failed") == 0
        assert ask(metrics, 'ALERTS{alertname="CxrgazeDrift", alertstate="firing"}') == 1
        seen = f'ray_cxrgaze_webhook_retraining{{state="{webhook.state(submission_id)}"}}'
        wait_until(lambda: ask(metrics, seen) == 1, "its state was not to be scraped")
        assert ask(metrics, 'ray_cxrgaze_webhook_requests_total{code="202"}') == 1
        assert (ask(metrics, 'ray_cxrgaze_webhook_requests_total{code="200"}') or 0) >= 2

        # a second incident on the same day is told to wait
        drift.set(0)
        wait_until(lambda: ask(metrics, 'ALERTS{alertname="CxrgazeDrift"}') is None, "the alert did not end")
        time.sleep(4)  # Alertmanager's group is then empty, and what comes next is a new one
        drift.set(1)
        wait_until(lambda: notified(port, "_failed") >= 1, "the second incident was not refused")
        wait_until(lambda: ask(metrics, 'ray_cxrgaze_webhook_requests_total{code="429"}'), "a 429 was not counted")
        works = list(retrainings(retraining.registry.store.child("cxrgaze/retraining")))
        assert (len(works), len(list(triggers.glob("*.json")))) == (1, 1)
    assert TOKEN not in (tmp_path / "webhook.log").read_text()
    assert not webhook.ray_folder.exists()
