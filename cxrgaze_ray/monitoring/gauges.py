"""The last report as gauges: for a Prometheus that scrapes, or a file that node_exporter picks up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client import Metric as Family
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.monitoring.features import FEATURES
from cxrgaze_ray.monitoring.report import DRIFTS, Finding, MonitorReport
from cxrgaze_ray.telemetry import (
    DRIFT_ALERT,
    DRIFT_EFFECT,
    DRIFT_SUSPECTED,
    DRIFT_THRESHOLD,
    MONITOR_AUC,
    MONITOR_IMAGES,
    MONITOR_TIME_SECONDS,
    Metric,
)

LOOPBACK = ("127.0.0.1", "::1", "localhost")

Samples = Iterable[tuple[tuple[str, ...], float]]


class ReportCollector(Collector):
    """Shows the last report whole: a scrape sees the old one or the new one, never a mixture.

    Attributes
    ----------
    report
        None before the first comparison: no gauge is there yet.
    """

    def __init__(self, report: MonitorReport | None = None) -> None:
        self.report = report

    def collect(self) -> Iterable[Family]:
        """Return every gauge; labels are features, families, drifts, sides and statuses, all of closed lists."""
        return [] if self.report is None else list(_families(self.report))

    def registry(self) -> CollectorRegistry:
        """Return a registry that holds nothing else."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry


def write_textfile(report: MonitorReport, path: str) -> None:
    """Write the gauges into a file of Prometheus's text format, whole or not at all.

    Raises
    ------
    UserError
        If the file can't be written.
    """
    try:
        write_to_textfile(path, ReportCollector(report).registry())
    except OSError as error:
        raise UserError(
            f"{path} can't be written: {error.strerror}.", "Name a file in a folder that exists."
        ) from error


@contextmanager
def serve_gauges(collector: ReportCollector, port: int, host: str) -> Iterator[int]:
    """Answer scrapes on ``/metrics`` while the block runs; give the port, which is a free one where 0 was asked for.

    Raises
    ------
    UserError
        If the port is taken or the host is not this machine's.
    """
    try:
        server, thread = start_http_server(port, host, collector.registry())
    except OSError as error:
        raise UserError(f"Nothing can listen on {host}:{port}: {error.strerror}.", "Use another port.") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _families(report: MonitorReport) -> Iterator[Family]:
    overall = [one for one in report.findings if one.subgroup is None and one.feature in FEATURES[one.family]]
    names = [(one.family, one.feature) for one in overall]
    measured = [(name, one.effect) for name, one in zip(names, overall, strict=True) if one.effect is not None]
    suspected = {one.drift for one in report.suspicions}
    yield _gauge(DRIFT_EFFECT, measured)
    yield _gauge(DRIFT_THRESHOLD, [(name, one.threshold) for name, one in zip(names, overall, strict=True)])
    yield _gauge(DRIFT_ALERT, [(name, _alerted(report.alerts, *name)) for name in names])
    yield _gauge(DRIFT_SUSPECTED, [((drift,), float(drift in suspected)) for drift in DRIFTS])
    sides = {"baseline": report.baseline, "current": report.current}
    statuses = ("scored", "skipped", "failed")
    yield _gauge(
        MONITOR_IMAGES, [((name, s), float(getattr(side, s))) for name, side in sides.items() for s in statuses]
    )
    yield _gauge(MONITOR_AUC, [((name,), side.auc_macro) for name, side in sides.items() if side.auc_macro is not None])
    yield _gauge(MONITOR_TIME_SECONDS, [((), datetime.fromisoformat(report.made_at).timestamp())])


def _alerted(alerts: Iterable[Finding], family: str, feature: str) -> float:
    """Return 1 if a feature is alerted, in a subgroup too: its name is no label, but its alert must not be lost."""
    return float(any(one.family == family and one.feature == feature for one in alerts))


def _gauge(metric: Metric, samples: Samples) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.description, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
