"""The Grafana dashboards: of Grafana's own types, about metrics that exist, with queries that can be asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from cxrgaze_ray.telemetry import TABLE
from tests.prometheus import DASHBOARDS, INFRA, queries
from tests.validators import run_tool

RULES = yaml.safe_load((INFRA / "prometheus" / "rules.yml").read_text())
RECORDED = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
RAYS_OWN = {"ray_serve_deployment_replica_healthy"}

every = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def panels(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    return found


def names() -> dict[str, dict[str, set[str]]]:
    """Return every name that Prometheus has of the table, with the values of its labels."""
    found: dict[str, dict[str, set[str]]] = {}
    for metric in TABLE:
        lists = {label.name: set(label.values) for label in metric.labels}
        ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[metric.kind]
        found |= {f"{ray}{metric.name}{end}": lists for end in ends for ray in ("ray_", "")}
    return found


def test_there_is_one_for_each_reader() -> None:
    assert [path.stem for path in DASHBOARDS] == ["model-health", "runs", "serving"]
    assert len({json.loads(path.read_text())["uid"] for path in DASHBOARDS}) == 3


@every
def test_grafana_s_types_have_every_key_of_it(path: Path) -> None:
    register_default_plugins()
    written = json.loads(path.read_text())
    assert list(lost(written, json.loads(json.dumps(Dashboard.from_json(written), cls=JSONEncoder)))) == []


def lost(written: Any, read: Any, place: str = "") -> Iterator[str]:
    """Yield the places whose value the types do not have; they add defaults, which is no loss."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            yield from lost(value, read.get(key, "absent"), f"{place}.{key}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for index, values in enumerate(zip(written, read, strict=True)):
            yield from lost(*values, f"{place}[{index}]")
    elif written != read:
        yield place


@every
def test_panels_do_not_overlap_and_say_what_they_show(path: Path) -> None:
    shown = panels(path)
    assert len({panel["id"] for panel in shown}) == len(shown)
    for one, other in combinations([panel["gridPos"] for panel in shown], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    for panel in shown:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["targets"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert {one["datasource"]["uid"] for one in [panel, *panel["targets"]]} == {"${datasource}"}


@every
def test_it_asks_for_metrics_and_values_of_labels_that_exist(path: Path) -> None:
    known = names()
    for title, expression in queries(path):
        asked = re.findall(r"\b((?:ray_)?cxrgaze_\w+|ray_serve_\w+|cxrgaze:[\w:]+)(?:\{(.*?)\})?", expression)
        assert asked, title
        for name, matchers in asked:
            if name in RECORDED | RAYS_OWN:
                continue
            assert name in known, f"{title}: {name}"
            for label, values in re.findall(r'(\w+)(?:=|!=|=~|!~)"(.*?)"', matchers):
                assert label in known[name], f"{title}: {name} has no label {label}"
                assert set(values.split("|")) <= known[name][label], f"{title}: {label} is never {values}"


@every
def test_prometheus_can_read_its_queries(path: Path, tmp_path: Path) -> None:
    rules = [{"record": f"query:{place}", "expr": expression} for place, (_, expression) in enumerate(queries(path))]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    run_tool("promtool", "check", "rules", file)


def test_every_metric_is_shown_or_watched() -> None:
    text = "".join(path.read_text() for path in DASHBOARDS) + str(RULES)
    assert [metric.name for metric in TABLE if metric.name not in text] == []
