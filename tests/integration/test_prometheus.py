"""Debian's Prometheus beside a cluster at work: what the table promises is there, rules evaluate, panels have data.

Everything runs as people run it: a head with its dashboard, commands with ``--address``, Prometheus with the files of
infra/. S3's requests pass a proxy that fails some of them.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import yaml

from cxrgaze_ray.cluster.connection import PROXY_MIDDLEWARES, PROXY_VARIABLE
from cxrgaze_ray.cluster.head import head_node
from cxrgaze_ray.cluster.ports import free_ports
from cxrgaze_ray.cluster.ray_internals import on_loopback
from cxrgaze_ray.cluster.session_folder import make_session_folder
from cxrgaze_ray.lifecycle.retraining.decide import Action, Decision
from cxrgaze_ray.lifecycle.retraining.gauges import Textfile
from cxrgaze_ray.lifecycle.retraining.run import Result
from cxrgaze_ray.lifecycle.retraining.workspace import Conclusion
from cxrgaze_ray.phantoms import GAZE_FOLDER, make_archive
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.telemetry import TABLE, Metric, table
from tests.alertmanager import notification
from tests.conftest import S3Server, clear_clients, s3_environment
from tests.dicom_files import gradient, make_dicom
from tests.fault_proxy import Fault, FaultProxy
from tests.integration.conftest import HEIGHT
from tests.integration.served import CXRGAZE, answers, served, started
from tests.prometheus import DASHBOARDS, Prometheus, node_exporter, prometheus, queries
from tests.unit.evaluation.test_gate import gate

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

WEBHOOK_TOKEN, CLUSTER_TOKEN = "a-token-of-the-webhook", "5" * 64
AUTHORISED = {"Authorization": f"Bearer {WEBHOOK_TOKEN}"}

BUCKET, RESULTS = "s3://test/observed-archive", "s3://test/observed-runs"


@dataclass(frozen=True)
class Observed:
    """What Prometheus has seen of a cluster's work."""

    prometheus: Prometheus
    began: float

    def greatest(self, metric: Metric) -> list[float]:
        """Return the greatest value of each of a metric's series; of a histogram, of its counts."""
        return self.prometheus.values(f"max_over_time({selector(metric)}[1h])")

    def missing(self) -> list[str]:
        """Return the metrics that were never there."""
        return [metric.name for metric in TABLE if not self.greatest(metric)]

    def empty(self, dashboard: Path) -> list[str]:
        """Return a dashboard's queries that had no answer while the work went on: some tell of running drivers only."""
        return [
            f"{title}: {expression}"
            for title, expression in queries(dashboard)
            if not any(math.isfinite(value) for series in self.over(expression) for value in series)
        ]

    def over(self, expression: str) -> list[list[float]]:
        """Return a query's answers at every moment since the work began."""
        return self.prometheus.series_over(expression, time.time() - self.began)


def selector(metric: Metric) -> str:
    """Return what finds a metric, with or without ``ray_``."""
    kind = {"counter": "_total", "histogram": "_count", "gauge": ""}[metric.kind]
    return f'{{__name__=~"(ray_)?{metric.name}{kind}"}}'


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    """Wait for something; where it does not come, tests say what lacks."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.5)


def cxrgaze(*arguments: str) -> None:
    done = subprocess.run([*CXRGAZE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def observed(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """Have a cluster do everything that is measured, and Prometheus watch it."""
    here = tmp_path_factory.mktemp("observed")
    folder, texts = make_session_folder(), here / "textfiles"
    texts.mkdir()
    service, metrics, exporter = free_ports(3)
    began = time.time()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder.root, ignore_errors=True)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        weather = stack.enter_context(FaultProxy(s3_server.endpoint))
        for name, value in {
            **s3_environment(s3_server, weather.endpoint),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": CLUSTER_TOKEN,
            "RAY_metrics_report_interval_ms": "1000",
            "CXRGAZE_WEBHOOK_TOKEN": WEBHOOK_TOKEN,
            PROXY_VARIABLE: PROXY_MIDDLEWARES,
            "XDG_CONFIG_HOME": str(here / "config"),
        }.items():
            patch.setenv(name, value)
        stack.enter_context(folder.takes_scratch())
        stack.enter_context(on_loopback())
        address = stack.enter_context(head_node(folder, 6, 600 * 2**20))
        stack.enter_context(node_exporter(texts, exporter))
        places = {"/tmp/ray/": f"{folder.ray}/", "127.0.0.1:9100": f"127.0.0.1:{exporter}"}
        server = stack.enter_context(prometheus(here, metrics, places))
        work(here, address, service, weather, stack, server)
        texts_of_the_night(here, texts)
        seen = Observed(server, began)
        # until the last values are scraped and evaluated
        wait_until(lambda: not seen.missing() and not any(map(seen.empty, DASHBOARDS)), 60)
        yield seen


def work(here: Path, address: str, service: int, weather: FaultProxy, stack: ExitStack, server: Prometheus) -> None:
    """Ingest, train, serve, score a folder and a bucket that refuses some requests, and call the webhook."""
    archive, registry, store = str(here / "archive"), str(here / "registry"), str(here / "store")
    on = ["--address", address, "--registry", registry]
    clear_clients()
    make_archive(open_store(archive), images=36, seed=11, faults=1, height=HEIGHT)
    make_archive(open_store(BUCKET), images=24, seed=12, height=HEIGHT)
    gaze, brief = f"{archive}/{GAZE_FOLDER}", here / "train.yaml"
    brief.write_text("stages: {encoder: {epochs: 2, batch: 8}, saliency: {epochs: 1, batch: 8}}")
    cxrgaze("ingest", archive, "--gaze", gaze, "--out", store, "--split-shares", "0.6,0.2", "--address", address)
    learnt = ["--preset", "tiny", "--phases", "encoder,saliency", "--config", str(brief), "--promote"]
    cxrgaze("train", store, *learnt, *on)
    stack.enter_context(served(here, registry, service, "--address", address))
    url = f"http://127.0.0.1:{service}"
    cxrgaze("score", archive, "--out", str(here / "runs"), "--engine", "float32", *on)
    busy = weather.add(Fault("slow_down", method="GET", key=r"/observed-archive/", skip=4, times=6))
    cxrgaze("score", BUCKET, "--out", RESULTS, "--engine", "float32", *on)
    assert busy.hits == 6
    ask(url)
    webhook(here, url, service, address, registry, stack, server)
    ask(url)


def ask(url: str) -> None:
    """Ask as good and bad clients do."""
    picture = make_dicom(gradient())
    with httpx.Client(base_url=url, timeout=120) as client:
        for _ in range(20):
            assert client.post("/v1/predict", content=picture).status_code == 200
            assert client.post("/v1/predict", content=b"no radiograph" * 9).status_code == 415
        files = [("files", ("a.dcm", picture)), ("files", ("b.dcm", picture))]
        assert client.post("/v1/predict/batch", files=files).status_code == 200
        assert client.get("/v1/MRN-774411").status_code == 404


def webhook(
    here: Path, url: str, service: int, address: str, registry: str, stack: ExitStack, server: Prometheus
) -> None:
    """Have the webhook turn one notification away, and start a retraining that has no settings, with another."""
    config = here / "webhook.yaml"
    settings = {"config": str(here / "none.yaml"), "registry": registry, "port": service, "route_prefix": "/webhook"}
    config.write_text(yaml.safe_dump(settings))
    words = ["webhook", "--config", str(config), "--address", address]
    hook = stack.enter_context(started(here / "webhook.log", *words))
    hook.wait_for(lambda: answers(f"{url}/webhook/readyz"), "there is no webhook")
    assert httpx.post(f"{url}/webhook/v1/retrain", content=notification(), timeout=60).status_code == 401
    taken = httpx.post(f"{url}/webhook/v1/retrain", content=notification(), headers=AUTHORISED, timeout=120)
    assert taken.status_code == 202, taken.text
    hook.wait_for(
        lambda: server.values('ray_cxrgaze_webhook_retraining{state="ask"} == 1'),
        "Prometheus was not told that the retraining ended for lack of settings",
    )


def texts_of_the_night(here: Path, texts: Path) -> None:
    """Write what the monitor and a retraining by cron leave for the node exporter."""
    labels = f"{here}/archive/{GAZE_FOLDER}"
    sides = ["--baseline", RESULTS, "--current", str(here / "runs"), "--labels", labels]
    cxrgaze("monitor", *sides, "--textfile", str(texts / "monitor.prom"))
    report = gate(100)
    ended = Conclusion(
        retraining_id="0", outcome=report.outcome, why=report.why, version="v0002", weights_sha256="0", promoted=True,
        finished_at=datetime.now(UTC).isoformat(),
    )  # fmt: skip
    with Textfile(str(texts / "retrain.prom")) as text:
        text.end(Result(Decision(action=Action.RETRAIN, reasons=()), ended, report))


@pytest.mark.parametrize("metric", TABLE, ids=lambda metric: metric.name)
def test_every_metric_moves(observed: Observed, metric: Metric) -> None:
    found = observed.greatest(metric)
    assert found, f"{metric.name} was never there"
    assert all(map(math.isfinite, found))
    if metric.kind != "gauge":
        assert max(found) > 0
    labels = {name for one in observed.prometheus.get("series", **{"match[]": selector(metric)}) for name in one}
    assert set(metric.label_names) <= labels


def test_no_client_s_word_became_a_label(observed: Observed) -> None:
    ours = observed.prometheus.get("series", **{"match[]": '{__name__=~"(ray_)?cxrgaze_.+"}'})
    assert ours
    assert "MRN" not in str(ours)
    codes = {one["code"] for one in ours if one["__name__"] == f"ray_{table.REQUESTS.name}_total"}
    assert {"200", "404", "415"} <= codes


def test_jobs_keep_the_label_that_tells_them_apart(observed: Observed) -> None:
    """Prometheus has a label ``job`` of its own; honor_labels keeps ours."""
    for job in ("score", "ingest"):
        assert observed.prometheus.values(f'sum(max_over_time(ray_cxrgaze_images_total{{job="{job}"}}[1h]))')[0] >= 24


def test_targets_are_up_that_were_found_through_ray_s_file(observed: Observed) -> None:
    targets = observed.prometheus.get("targets")["activeTargets"]
    found = {(one["scrapePool"], one["health"]) for one in targets}
    assert ("ray", "up") in found
    assert ("node", "up") in found
    assert not [one["lastError"] for one in targets if one["scrapePool"] == "ray" and one["health"] != "up"]


def test_every_rule_evaluates(observed: Observed) -> None:
    rules = [rule for group in observed.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 10
    assert [(rule["name"], rule["health"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    for rule in rules:
        if rule["type"] == "recording":
            assert observed.over(rule["name"]), rule["name"]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_has_data(observed: Observed, dashboard: Path) -> None:
    assert observed.empty(dashboard) == []
