"""What is given to Prometheus, Alertmanager, cron and nginx."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cxrgaze_ray.cli import app
from cxrgaze_ray.config.serve_file import ServeFile
from cxrgaze_ray.http.proxy import ProxyLimits
from cxrgaze_ray.lifecycle.webhook.settings import WebhookSettings
from cxrgaze_ray.telemetry import TABLE
from tests.validators import run_tool

INFRA = Path(__file__).parents[2] / "infra"
PROMETHEUS = INFRA / "prometheus"
RAY_TARGETS = "/tmp/ray/prom_metrics_service_discovery.json"
RULE_TESTS = sorted(PROMETHEUS.glob("rules*_test.yml"))
SERVICES = ("serve", "webhook")
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}


def test_the_rules_alert_when_they_should_and_are_silent_when_they_should() -> None:
    run_tool("promtool", "check", "rules", PROMETHEUS / "rules.yml")
    run_tool("promtool", "test", "rules", *RULE_TESTS)


def test_every_alert_is_tested_to_fire_and_to_be_silent() -> None:
    tests = [test for path in RULE_TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    expected = [one for test in tests for one in test["alert_rule_test"]]
    assert {one["alertname"] for one in expected if one["exp_alerts"]} == set(ALERTS)
    assert {one["alertname"] for one in expected if not one["exp_alerts"]} == set(ALERTS)


def test_the_example_configs_are_ones_that_are_read(tmp_path: Path) -> None:
    # promtool wants the list of targets to exist, which Ray writes when it starts: it is given one of its own here
    targets = tmp_path / "targets.json"
    targets.write_text("[]")
    config = (PROMETHEUS / "prometheus.yml").read_text()
    assert config.count(RAY_TARGETS) == 1
    shutil.copy(PROMETHEUS / "rules.yml", tmp_path)
    (tmp_path / "prometheus.yml").write_text(config.replace(RAY_TARGETS, str(targets)))
    run_tool("promtool", "check", "config", tmp_path / "prometheus.yml")
    run_tool("amtool", "check-config", PROMETHEUS / "alertmanager.yml")


def test_services_of_their_own_show_their_metrics_where_prometheus_looks() -> None:
    jobs = {
        one["job_name"]: one for one in yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    }
    (there,) = jobs["cxrgaze-service"]["static_configs"]
    commands = vars(typer.main.get_command(app))["commands"]
    ports = [next(one.default for one in commands[name].params if one.name == "metrics_port") for name in SERVICES]
    assert there["targets"] == [f"127.0.0.1:{port}" for port in ports]
    assert jobs["cxrgaze-service"]["honor_labels"] is jobs["ray"]["honor_labels"] is True


def test_the_nights_commands_show_their_metrics_where_prometheus_looks() -> None:
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    (there,) = (one["static_configs"][0]["targets"] for one in jobs if one["job_name"] == "cxrgaze-night")
    ports = [found[1] for _, command in cron_lines() if (found := re.search(r"--metrics-port (\d+)", command))]
    assert there == [f"127.0.0.1:{port}" for port in ports]


def test_every_alert_has_its_entry_in_the_runbook() -> None:
    runbook = (INFRA.parent / "docs/how-to/alerts.md").read_text()
    entries = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", runbook, re.M | re.S))
    assert set(entries) == set(ALERTS)
    table = re.findall(r"^\|.*?\| (.*) \|$", runbook, re.M)
    assert re.findall(r"\[(\w+)\]\(#", " ".join(table)) == list(entries), "each is led to, in order"
    for name, entry in entries.items():
        assert ALERTS[name]["annotations"]["runbook_url"] == f"docs/how-to/alerts.md#{name.lower()}"
        assert re.findall(r"^\*\*(\w+)\.\*\*", entry, re.M) == ["Means", "Look", "Do"]
        assert ALERTS[name]["labels"]["severity"] in ("info", "warning", "critical")
        assert ALERTS[name]["annotations"]["summary"].endswith(".")


def test_the_rules_ask_for_metrics_that_exist() -> None:
    known = {f"ray_{metric.name}{'_total' * (metric.kind == 'counter')}" for metric in TABLE}
    known |= {metric.name for metric in TABLE if metric.kind == "gauge"}
    asked = {name for rule in RULES for name in re.findall(r"\b(?:ray_)?cxrgaze_\w+", rule["expr"])}
    assert asked <= known
    assert len(asked) >= 5


def test_the_alerts_that_retrain_are_those_that_reach_the_webhook() -> None:
    (route, _) = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text())["route"]["routes"]
    matcher = re.search(r'"(.*)"', route["matchers"][0])
    assert matcher
    names = set(matcher[1].split("|"))
    assert names == set(WebhookSettings(config="c").alerts) <= set(ALERTS)


def test_the_reverse_proxy_lets_through_what_the_service_takes_and_hides_the_rest() -> None:
    text = re.sub(r"#.*", "", (INFRA / "nginx" / "cxrgaze.conf").read_text())
    assert text.count("{") == text.count("}")
    file = ServeFile()
    (upstream,) = re.findall(r"server ([\d.]+:\d+);", text)
    assert upstream == f"{file.http_options.host}:{file.http_options.port}"
    assert f"client_max_body_size {file.ingress.max_body_mib}m;" in text
    buffers, size = map(int, re.findall(r"large_client_header_buffers (\d+) (\d+)k", text)[0])
    rate, burst = map(int, re.findall(r"rate=(\d+)r/s[^$]*burst=(\d+)", text)[0])
    assert (rate, burst) == (ProxyLimits().client_rate, ProxyLimits().client_burst)
    assert buffers * size * 1024 <= ProxyLimits().header_bytes
    assert re.findall(r"location (.*) \{", text) == ["/v1/", "= /healthz", "= /readyz", "/"]


def cron_lines() -> Iterator[tuple[list[str], str]]:
    for line in (INFRA / "cron" / "cxrgaze.cron").read_text().splitlines():
        if line and line[0] != "#" and "=" not in line.split()[0]:
            *times, _user, command = line.split(maxsplit=6)
            yield times, command


def test_the_nights_of_cron_do_not_overlap_and_tell_of_failures() -> None:
    lines = list(cron_lines())
    assert [re.findall(r"\bcxrgaze (\w+)", command) for _, command in lines] == [["score"], ["monitor"], ["retrain"]]
    for times, command in lines:
        assert len(times) == 5
        assert re.match(r"flock -n /run/lock/cxrgaze-\w+ cxrgaze ", command)
        subprocess.run(["sh", "-n", "-c", command], check=True)


def test_what_cron_calls_can_be_typed() -> None:
    known: dict[str, Any] = vars(typer.main.get_command(app))["commands"]
    called = [re.sub(r";.*", "", re.sub(r"^.*?(?=cxrgaze )", "", command)) for _, command in cron_lines()]
    tried = [words for words in map(shlex.split, called) if words[1] in known]
    assert tried
    for _, name, *arguments in tried:
        known[name].make_context(name, arguments)


@pytest.mark.parametrize(("code", "passes"), [(0, True), (10, True), (11, True), (4, False), (1, False)])
def test_the_gate_s_answers_are_no_failures_to_cron(tmp_path: Path, code: int, passes: bool) -> None:
    command = next(command for _, command in cron_lines() if "cxrgaze retrain" in command)
    for name, text in (("flock", f"exit {code}"), ("cxrgaze", "exit 99")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    assert subprocess.run(["sh", "-c", command], env={"PATH": path}, check=False).returncode == (0 if passes else code)
