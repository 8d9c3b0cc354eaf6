"""Every socket that a command opens on a machine of its own is tried by somebody who has no token."""

from __future__ import annotations

import shutil
from ipaddress import ip_address
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from cxrgaze_ray.cluster.ports import free_ports
from cxrgaze_ray.phantoms import PhantomReport
from tests.integration.scored import kill_driver, start_driver, wait_for
from tests.integration.served import served, started
from tests.integration.sockets import family_of, refuses, shows_metrics_alone, sockets

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def own(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("CXRGAZE_TOKEN", "a-token-of-those-who-ask-for-scores")
    monkeypatch.setenv("CXRGAZE_WEBHOOK_TOKEN", "a-token-of-those-who-send-alerts")
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def try_all(pid: int, *, at_least: int, metrics: int, route: tuple[int, str] | None = None) -> None:
    """Try every socket of a command and of all that it started.

    Parameters
    ----------
    pid
        The command.
    at_least
        Sockets that it has.
    metrics
        Most of them that may show their metrics to anybody; each other one refuses.
    route
        Port and route of our own HTTP, which has no more than a 404 for routes of others.
    """
    others, replicas = map(sockets, family_of(psutil.Process(pid)))
    assert all(ip_address(host).is_loopback for host, _ in others), others
    ports = {port for _, port in others | replicas}
    assert len(ports) >= at_least, ports
    open_to_all = {port for port in ports if not refuses("127.0.0.1", port)}
    if route is not None:
        port, path = route
        assert httpx.post(f"http://127.0.0.1:{port}{path}", content=b"x").status_code == 401
        open_to_all.remove(port)
    assert all(shows_metrics_alone("127.0.0.1", port) for port in open_to_all), open_to_all
    assert len(open_to_all) <= metrics, open_to_all


def test_serve(tmp_path: Path, registry: str) -> None:
    port, metrics = free_ports(2)
    with served(tmp_path, registry, port, "--metrics-port", str(metrics)) as service:
        try_all(service.process.pid, at_least=8, metrics=3, route=(port, "/v1/predict"))


def test_webhook(tmp_path: Path, registry: str) -> None:
    port, metrics = free_ports(2)
    config = tmp_path / "webhook.yaml"
    retrain = tmp_path / "retrain.yaml"
    retrain.write_text(yaml.safe_dump({"registry": registry, "name": "cxrgaze", "stores": [str(tmp_path)]}))
    config.write_text(yaml.safe_dump({"config": str(retrain), "registry": registry, "name": "cxrgaze", "port": port}))
    words = ("webhook", "--config", str(config), "--metrics-port", str(metrics))
    with started(tmp_path / "webhook.log", *words) as webhook:
        webhook.wait_for(lambda: "may post to" in webhook.log.read_text(), "nobody may post")
        try_all(webhook.process.pid, at_least=8, metrics=3, route=(port, "/v1/retrain"))


def test_score(tmp_path: Path, registry: str, large_archive: str, scratch: Path) -> None:
    driver = start_driver(large_archive, str(tmp_path / "out"), registry, None, TMPDIR=str(scratch))
    try:
        wait_for(lambda: (tmp_path / "out").is_dir() and any((tmp_path / "out").iterdir()), driver)
        try_all(driver.pid, at_least=5, metrics=3)
    finally:
        kill_driver(driver)


def test_monitor(tmp_path: Path, registry: str, phantoms: tuple[str, PhantomReport], scratch: Path) -> None:
    (port,) = free_ports(1)
    driver = start_driver(phantoms[0], str(tmp_path / "out"), registry, None, TMPDIR=str(scratch))
    said = driver.communicate(timeout=300)[1]
    assert driver.returncode == 0, said
    (run,) = (str(one) for one in (tmp_path / "out").iterdir() if one.is_dir())
    baseline = shutil.copytree(run, tmp_path / "baseline")
    words = ("monitor", "--baseline", str(baseline), "--current", run, "--json-out", str(tmp_path / "report.json"))
    with started(tmp_path / "monitor.log", *words, "--serve-metrics", str(port)) as monitor:
        monitor.wait_for(lambda: shows_metrics_alone("127.0.0.1", port), "no figures are shown")
        try_all(monitor.process.pid, at_least=1, metrics=1)
