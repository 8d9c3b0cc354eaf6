"""Debian's Prometheus, run with the files of infra/, and asked what it has."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.validators import find_tool

INFRA = Path(__file__).parents[1] / "infra"
DASHBOARDS = sorted((INFRA / "grafana").glob("*.json"))
SCRAPE_S = 1
"""Seconds between scrapes: a test can't wait for the half minutes of service."""

_START_S = 60.0
_RANGES = {"$__rate_interval": "1m", "$__range": "1h"}
"""What Grafana puts in place of its own variables."""


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        try:
            with urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def get(self, path: str, **parameters: Any) -> Any:
        with urlopen(f"{self._url}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def values(self, expression: str) -> list[float]:
        """Return the values of a query now, of every series."""
        return [float(one["value"][1]) for one in self.get("query", query=expression)["result"]]

    def series_over(self, expression: str, seconds: float) -> list[list[float]]:
        """Return the values of every series over the last seconds, as a panel draws them."""
        now = time.time()
        found = self.get("query_range", query=expression, start=now - seconds, end=now, step=max(1, seconds // 300))
        return [[float(value) for _, value in one["values"]] for one in found["result"]]


@contextmanager
def prometheus(folder: Path, port: int, substitutes: dict[str, str]) -> Iterator[Prometheus]:
    """Run Prometheus with infra/prometheus/prometheus.yml and its rules while the block runs.

    Parameters
    ----------
    substitutes
        What stands in the file, and what to put there: ports, and the cluster's folder.
    """
    text = (INFRA / "prometheus" / "prometheus.yml").read_text()
    for old, new in {**substitutes, "30s": f"{SCRAPE_S}s"}.items():
        assert old in text, f"{old} is not in prometheus.yml"
        text = text.replace(old, new)
    (folder / "prometheus.yml").write_text(text)
    (folder / "rules.yml").write_bytes((INFRA / "prometheus" / "rules.yml").read_bytes())
    command = [
        find_tool("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with running(command, folder / "prometheus.log"):
        server, end = Prometheus(port), time.monotonic() + _START_S
        while not server.ready():
            assert time.monotonic() < end, (folder / "prometheus.log").read_text()
            time.sleep(0.2)
        yield server


@contextmanager
def node_exporter(folder: Path, port: int) -> Iterator[None]:
    """Run Prometheus's node exporter on a folder of textfiles while the block runs."""
    command = [
        find_tool("prometheus-node-exporter"), f"--web.listen-address=127.0.0.1:{port}",
        "--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={folder}",
    ]  # fmt: skip
    with running(command, folder / "exporter.log"):
        yield


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program while the block runs; it is told to end, and then made to."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=os.environ, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def queries(dashboard: Path) -> list[tuple[str, str]]:
    """Return the queries of a dashboard: panel's title, and expression as Prometheus takes it."""
    found = []
    for panel in json.loads(dashboard.read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in _RANGES.items():
                expression = expression.replace(name, value)
            assert "$" not in expression, expression
            found.append((panel["title"], expression))
    return found
