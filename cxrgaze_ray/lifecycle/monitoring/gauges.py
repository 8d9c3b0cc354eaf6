"""The last report as gauges: for a Prometheus that scrapes, or a file that node_exporter picks up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from prometheus_client import Metric as Family
from prometheus_client import start_http_server

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.lifecycle.monitoring.features import FEATURES
from cxrgaze_ray.lifecycle.monitoring.report import DRIFTS, Finding, MonitorReport
from cxrgaze_ray.lifecycle.prometheus import Gauges, gauge
from cxrgaze_ray.telemetry.table import (
    DRIFT_ALERT,
    DRIFT_EFFECT,
    DRIFT_SUSPECTED,
    DRIFT_THRESHOLD,
    MONITOR_AUC,
    MONITOR_IMAGES,
    MONITOR_RUN_TIME,
    MONITOR_TIME_SECONDS,
)

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ReportGauges(Gauges):
    """Shows the whole last report: a scrape sees the old one or the new one, never a mixture.

    Attributes
    ----------
    report
        The last report; None before the first comparison, when there are no gauges yet.
    """

    def __init__(self, report: MonitorReport | None = None) -> None:
        super().__init__(lambda: [] if self.report is None else families(self.report))
        self.report = report


@contextmanager
def serve_gauges(gauges: Gauges, port: int, host: str) -> Iterator[int]:
    """Answer scrapes on ``/metrics`` while the block runs; yield the port, a free one if 0 was asked for.

    Raises
    ------
    UserError
        If the port is taken or the host is not this machine's.
    """
    try:
        server, thread = start_http_server(port, host, gauges.registry())
    except OSError as error:
        raise UserError(
            f"Nothing can listen on {host}:{port}: {error.strerror}.", "Use another port, or another --host."
        ) from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def families(report: MonitorReport) -> list[Family]:
    """Return every gauge; labels are features, families, drifts, sides and statuses, all from closed lists."""
    overall = [
        finding
        for finding in report.findings
        if finding.subgroup is None and finding.feature in FEATURES[finding.family]
    ]
    names = [(finding.family, finding.feature) for finding in overall]
    measured = [
        (name, finding.effect) for name, finding in zip(names, overall, strict=True) if finding.effect is not None
    ]
    suspected = {suspicion.drift for suspicion in report.suspicions}
    sides = {"baseline": report.baseline, "current": report.current}
    statuses = ("scored", "skipped", "failed")
    images = [((name, status), float(getattr(side, status))) for name, side in sides.items() for status in statuses]
    areas = [((name,), side.auc_macro) for name, side in sides.items() if side.auc_macro is not None]
    return [
        gauge(DRIFT_EFFECT, measured),
        gauge(DRIFT_THRESHOLD, [(name, finding.threshold) for name, finding in zip(names, overall, strict=True)]),
        gauge(DRIFT_ALERT, [(name, _alerted(report.alerts, *name)) for name in names]),
        gauge(DRIFT_SUSPECTED, [((drift,), float(drift in suspected)) for drift in DRIFTS]),
        gauge(MONITOR_IMAGES, images),
        gauge(MONITOR_AUC, areas),
        gauge(MONITOR_TIME_SECONDS, [((), _unix(report.made_at))]),
        gauge(MONITOR_RUN_TIME, [((name,), _unix(side.last_at)) for name, side in sides.items()]),
    ]


def _unix(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _alerted(alerts: Iterable[Finding], family: str, feature: str) -> float:
    """Return 1 if a feature is alerted, or any of its subgroups, which are no labels: their alerts must not be lost."""
    return float(any(finding.family == family and finding.feature == feature for finding in alerts))
