"""Watch runs: what changed between two sides, whether it could be chance, and what it looks like."""

from cxrgaze_ray.lifecycle.monitoring.compare import monitor
from cxrgaze_ray.lifecycle.monitoring.gauges import LOOPBACK, ReportGauges, serve_gauges
from cxrgaze_ray.lifecycle.monitoring.page import monitor_page, sentences
from cxrgaze_ray.lifecycle.monitoring.report import Finding, MonitorReport, Side, Suspicion
from cxrgaze_ray.lifecycle.monitoring.run_selection import open_runs
from cxrgaze_ray.lifecycle.monitoring.settings import MonitorSettings, Thresholds
from cxrgaze_ray.lifecycle.monitoring.watch import Outputs, Watch

__all__ = [
    "LOOPBACK",
    "Finding",
    "MonitorReport",
    "MonitorSettings",
    "Outputs",
    "ReportGauges",
    "Side",
    "Suspicion",
    "Thresholds",
    "Watch",
    "monitor",
    "monitor_page",
    "open_runs",
    "sentences",
    "serve_gauges",
]
