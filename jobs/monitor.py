"""Ray job: compare runs with earlier ones.  python jobs/monitor.py --config jobs/monitor.yaml"""

from typing import Any

from cxrgaze_ray.cli.job import run_job
from cxrgaze_ray.config import Settings
from cxrgaze_ray.monitoring import MonitorSettings, Outputs, Watch


class MonitorJob(Settings):
    """Contents of monitor.yaml."""

    baseline: tuple[str, ...]
    current: tuple[str, ...]
    last: int | None = None
    labels: str | None = None
    outputs: Outputs = Outputs()
    settings: MonitorSettings = MonitorSettings()


def work(job: MonitorJob) -> dict[str, Any]:
    report = Watch(job.baseline, job.current, job.settings, last=job.last, labels=job.labels).look()
    job.outputs.write(report)
    return report.summary()


if __name__ == "__main__":
    run_job(MonitorJob, work)
