"""Ray job: compare runs with earlier ones.  python jobs/monitor.py --config jobs/monitor.yaml"""

from typing import Any

from pydantic import Field

from cxrgaze_ray.cli.job import run_job
from cxrgaze_ray.config import Settings, Uri
from cxrgaze_ray.lifecycle.monitoring import MonitorSettings, Outputs, Watch


class MonitorJob(Settings):
    """Contents of monitor.yaml."""

    baseline: tuple[Uri, ...] = Field(min_length=1, max_length=1000)
    current: tuple[Uri, ...] = Field(min_length=1, max_length=1000)
    last: int | None = Field(None, ge=1, le=1_000_000)
    labels: Uri | None = None
    outputs: Outputs = Outputs()
    settings: MonitorSettings = MonitorSettings()


def work(job: MonitorJob) -> dict[str, Any]:
    report = Watch(job.baseline, job.current, job.settings, last=job.last, labels=job.labels).look()
    job.outputs.write(report)
    return report.summary()


if __name__ == "__main__":
    run_job(MonitorJob, work)
