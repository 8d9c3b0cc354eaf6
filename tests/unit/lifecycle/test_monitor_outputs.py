"""Where a comparison goes: a page, JSON, gauges over HTTP and in a file, the command and its exit codes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cxrgaze_ray import telemetry
from cxrgaze_ray.cli import app
from cxrgaze_ray.errors import EXIT_INTERRUPTED, UserError
from cxrgaze_ray.lifecycle.monitoring import (
    MonitorReport,
    MonitorSettings,
    ReportGauges,
    Watch,
    monitor,
    monitor_page,
    serve_gauges,
)
from cxrgaze_ray.lifecycle.monitoring.features import FEATURES
from cxrgaze_ray.lifecycle.monitoring.gauges import families
from cxrgaze_ray.lifecycle.monitoring.report import DRIFTS, Finding
from cxrgaze_ray.lifecycle.prometheus import write_textfile
from cxrgaze_ray.schemas import RESEARCH_ONLY
from cxrgaze_ray.scoring.runs import Run
from cxrgaze_ray.storage import LocalStore
from tests.populations import make_run, population
from tests.scrape import scrape

SETTINGS = MonitorSettings(saliency_sample=60)
INJECTION = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Leave a usual run, and one from other devices of a strange name, beside an unfinished one."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "usual", population(160, seed=1))
    rows = [{**row, "manufacturer": f"Helio {INJECTION}"} for row in population(160, seed=2, site=1.0)]
    make_run(folder / "new", rows, name="other", at="2026-02-01T00:00:00+00:00")
    make_run(folder / "new", population(3, seed=3), name="late", at="2026-03-01T00:00:00+00:00", finish=False)
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> MonitorReport:
    return Watch([str(folder / "usual")], [str(folder / "new")], SETTINGS).look()


def test_gauges_are_scraped_over_http(report: MonitorReport) -> None:
    with serve_gauges(ReportGauges(report), 0, "127.0.0.1") as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            found = scrape(answer.read().decode())
        with pytest.raises(UserError, match="Nothing can listen"), serve_gauges(ReportGauges(), port, "127.0.0.1"):
            pass
    assert found["cxrgaze_drift_alert", "acquisition", "manufacturer"] == 1
    assert found["cxrgaze_drift_alert", "acquisition", "sex"] == 0
    assert found["cxrgaze_drift_effect", "acquisition", "manufacturer"] > 1
    assert found["cxrgaze_drift_threshold", "acquisition", "manufacturer"] == 0.2
    assert {drift: found["cxrgaze_drift_suspected", drift] for drift in DRIFTS} == {
        drift: float(drift == "site") for drift in DRIFTS
    }
    assert found["cxrgaze_monitor_images", "current", "scored"] == report.current.scored
    assert found[("cxrgaze_monitor_time_seconds",)] > 1.7e9


@contextmanager
def staying(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """Start the command that stays; give it, the address of its gauges, and what it said before it named that."""
    command = [sys.executable, "-m", "cxrgaze_ray", "monitor", *arguments, "--serve-metrics", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            said = []
            for line in process.stderr:
                said.append(line)
                if found := re.search(r"http://[^ ]+/metrics", line):
                    break
            assert found, said
            yield process, found[0], said
        finally:
            process.kill()


@pytest.mark.long
def test_the_command_stays_takes_up_new_runs_and_ends_when_asked_to(tmp_path: Path) -> None:
    make_run(tmp_path / "usual", population(60, seed=1))
    new = [make_run(tmp_path / "new", population(60, seed=2), name="first", at="2026-02-01T00:00:00+00:00")]
    sides = ["--baseline", str(tmp_path / "usual"), "--current", str(tmp_path / "new"), "--every", "1", "--strict"]

    def scored(address: str) -> float:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return scrape(answer.read().decode())["cxrgaze_monitor_images", "current", "scored"]

    with staying(*sides, "--host", "127.0.0.2") as (process, address, said):
        assert any("Warning: anybody who can reach 127.0.0.2" in line for line in said)
        before = scored(address)
        elsewhere = [{**row, "manufacturer": "Helio Systems"} for row in population(90, seed=3, site=1.0)]
        make_run(tmp_path / "new", elsewhere, name="second", at="2026-02-02T00:00:00+00:00")
        while scored(address) == before:  # the test's own timeout ends it
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        result, last_words = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, "what ends it is the wish, not the alerts"
    assert "devices" in last_words
    assert result.startswith("Baseline: ")
    assert before == len([row for run in new for _, _, table in run.committed() for row in table.to_pylist()
                          if row["status"] == "scored"])  # fmt: skip


def test_labels_of_gauges_are_closed_and_names_stand_in_the_table(report: MonitorReport) -> None:
    names = {metric.name: metric for metric in telemetry.TABLE}
    features = {feature for some in FEATURES.values() for feature in some}
    fall = Finding(
        family="performance", feature="auc_macro", measure="difference", effect=0.2, threshold=0.05, noise=0.1,
        status="alert", subgroup=f"manufacturer={INJECTION}", detail="",
    )  # fmt: skip
    changed = report.model_copy(update={"findings": (*report.findings, fall)})
    values = {}
    for family in ReportGauges(changed).collect():
        assert family.type == "gauge"
        for sample in family.samples:
            assert tuple(sample.labels) == names[family.name].label_names
            values[sample.labels.get("feature")] = sample.value
            allowed = features | {*FEATURES, *DRIFTS, "baseline", "current", "scored", "skipped", "failed"}
            assert set(sample.labels.values()) <= allowed
    assert values["auc_macro"] == 1  # a subgroup's alert is one of the figure's


def test_there_are_no_gauges_before_the_first_report() -> None:
    assert list(ReportGauges().collect()) == []


def test_gauges_are_written_for_node_exporter(report: MonitorReport, tmp_path: Path) -> None:
    write_textfile(families(report), str(tmp_path / "cxrgaze.prom"))
    found = scrape((tmp_path / "cxrgaze.prom").read_text())
    assert found["cxrgaze_drift_suspected", "site"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["cxrgaze.prom"]
    with pytest.raises(UserError, match="can't be written"):
        write_textfile(families(report), str(tmp_path / "nowhere" / "cxrgaze.prom"))


def test_a_page_stands_alone_and_says_what_is_suspected(report: MonitorReport) -> None:
    page = monitor_page(report)
    assert RESEARCH_ONLY in page
    assert "Suspected: site." in page
    assert not re.search(r"https?://|//cdn|url\(|@import|<script", page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    for finding in report.findings:
        assert finding.feature.replace("_", " ").replace("=", ": ") in page
    assert "Distributions that moved" in page


def test_a_page_without_alert_says_so(folder: Path) -> None:
    run = Run.open(LocalStore(str(folder / "usual" / "run")))
    assert "No alert: nothing is beyond" in monitor_page(monitor([run], [run], SETTINGS))


def test_runs_that_finish_under_a_parent_are_taken_up_and_errors_leave_the_last_report(tmp_path: Path) -> None:
    rows = population(20, seed=1)
    make_run(tmp_path / "base", rows)
    make_run(tmp_path / "new", rows, name="one", at="2026-02-01T00:00:00+00:00")
    watch = Watch([str(tmp_path / "base")], [str(tmp_path / "new")], MonitorSettings(saliency_sample=0))
    seen, said, stop = [watch.look()], list[str](), threading.Event()
    assert watch.look().model_copy(update={"made_at": seen[0].made_at}) == seen[0]
    make_run(tmp_path / "new", population(20, seed=2), name="two", at="2026-02-02T00:00:00+00:00")

    def show(report: MonitorReport) -> None:
        seen.append(report)
        (tmp_path / "new").rename(tmp_path / "away")

    def say(sentence: str) -> None:
        said.append(sentence)
        stop.set()

    watch.keep_looking(0.01, stop, show, say)
    assert [len(one.current.runs) for one in seen] == [1, 2]
    assert "no run at or under" in said[0]
    assert "The last report stands" in said[0]


def test_the_command_writes_everything_and_strict_ends_with_3(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "monitor.yaml"
    config.write_text("saliency_sample: 60")
    files = {name: tmp_path / f"report.{name}" for name in ("html", "json", "prom")}
    arguments = [
        "monitor", "--baseline", str(folder / "usual"), "--current", str(folder / "new"), "--config", str(config),
        "--out", str(files["html"]), "--json-out", str(files["json"]), "--textfile", str(files["prom"]),
    ]  # fmt: skip
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    assert "Suspected: site." in ended.stdout
    assert "Suspected: site." in files["html"].read_text()
    assert [one.drift for one in MonitorReport.model_validate_json(files["json"].read_text()).suspicions] == ["site"]
    assert 'cxrgaze_drift_suspected{drift="site"} 1.0' in files["prom"].read_text()
    assert CliRunner().invoke(app, [*arguments, "--strict"]).exit_code == 3
