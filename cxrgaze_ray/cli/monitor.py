"""cxrgaze monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from cxrgaze_ray.cli.console import bar, say, show, stay, stop_on_interrupt
from cxrgaze_ray.cli.options import Json
from cxrgaze_ray.errors import EXIT_STRICT

if TYPE_CHECKING:
    from cxrgaze_ray.lifecycle.monitoring import MonitorReport, Outputs, Watch

_STOPPING = "Stopping: the comparison in progress is finished first. Ctrl-C again stops at once."


def monitor(
    baseline: Annotated[
        list[str], typer.Option(metavar="RUN", help="What is usual: a run, or a parent of runs; may be repeated.")
    ],
    current: Annotated[
        list[str], typer.Option(metavar="RUN", help="What to compare with it: a run, or a parent; may be repeated.")
    ],
    last: Annotated[
        int | None, typer.Option(min=1, help="Use only the N newest finished runs of a parent in --current.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="EGD-CXR tables with labels and gaze that have arrived.")] = None,
    config: Annotated[str | None, typer.Option(help="YAML that overrides thresholds and other settings.")] = None,
    out: Annotated[str | None, typer.Option(help="HTML report to write.")] = None,
    json_out: Annotated[str | None, typer.Option(help="JSON report to write.")] = None,
    textfile: Annotated[str | None, typer.Option(help="Gauges to write for node_exporter; ends in .prom.")] = None,
    serve_metrics: Annotated[
        int | None, typer.Option(min=0, max=65535, metavar="PORT", help="Stay and show gauges to Prometheus there.")
    ] = None,
    every: Annotated[float, typer.Option(min=1, help="Seconds between comparisons, with --serve-metrics.")] = 300.0,
    host: Annotated[str, typer.Option(help="Address for --serve-metrics; any but loopback is open to others.")] = (
        "127.0.0.1"
    ),
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 on an alert, unless it keeps running.")] = False,
    as_json: Json = False,
) -> None:
    """Compare runs with earlier ones: files, brightness, scores, maps, refusals; with labels, the answers' quality.

    Example: cxrgaze monitor --baseline ./results/3f0c5a9d1b2e4f67 --current ./nightly --last 7 --out monitor.html
    """
    from cxrgaze_ray.lifecycle.monitoring import MonitorSettings, Outputs, Watch, sentences
    from cxrgaze_ray.storage import read_settings

    settings = MonitorSettings() if config is None else read_settings(MonitorSettings, config)
    watch = Watch(baseline, current, settings, last=last, labels=labels)
    outputs = Outputs(out=out, json_out=json_out, textfile=textfile)
    outputs.check()
    with bar("Comparing", quiet=as_json) as progress:
        report = watch.look(progress.update)
    outputs.write(report)
    written = ", ".join(filter(None, (out, json_out, textfile)))
    lines = [*sentences(report), f"The report is in {written}." if written else "Nothing was written: see --out."]
    show(report.summary(), as_json=as_json, lines=lines)
    if serve_metrics is not None:
        _serve(watch, outputs, report, serve_metrics, host, every)
    if strict and report.alerts:
        raise typer.Exit(EXIT_STRICT)


def _serve(watch: Watch, outputs: Outputs, report: MonitorReport, port: int, host: str, every_s: float) -> NoReturn:
    """Show gauges until asked to stop."""
    from cxrgaze_ray.lifecycle.monitoring import LOOPBACK, ReportGauges, sentences, serve_gauges

    last, gauges = report, ReportGauges(report)

    def renew(report: MonitorReport) -> None:
        nonlocal last
        if report.suspicions != last.suspicions:
            say(" ".join(sentences(report)))
        last = gauges.report = report
        outputs.write(report)

    if host not in LOOPBACK:
        say(f"Warning: anybody who can reach {host} can read the gauges; there is no password.")
    with serve_gauges(gauges, port, host) as bound, stop_on_interrupt(_STOPPING) as stop:
        say(f"Gauges are on http://{host}:{bound}/metrics, renewed every {every_s:.0f} s. Ctrl-C ends this.")
        watch.keep_looking(every_s, stop, renew, say)
        stay(stop)
