"""Ray job: score an archive into a run.  python jobs/score.py --config jobs/score.yaml"""

from functools import partial
from pathlib import Path
from typing import Any

from cxrgaze_ray.archive.identities import open_key
from cxrgaze_ray.cli.console import STOP_SCORING, bar, say, stop_on_interrupt
from cxrgaze_ray.cli.job import run_job
from cxrgaze_ray.cluster.connection import ClusterSettings, connect
from cxrgaze_ray.config import Settings, Uri
from cxrgaze_ray.scoring.driver import ScoreSettings, score_archive
from cxrgaze_ray.scoring.runs import Request


class ScoreJob(Settings):
    """Contents of score.yaml."""

    request: Request
    out: Uri
    registry: Uri
    cluster: ClusterSettings = ClusterSettings()
    settings: ScoreSettings = ScoreSettings()
    retry_failed: bool = False
    new: bool = False
    pseudonyms: Path | None = None


def work(job: ScoreJob) -> dict[str, Any]:
    how: dict[str, Any] = {"settings": job.settings, "retry_failed": job.retry_failed, "new": job.new, "say": say}
    with bar("Scoring") as shown, stop_on_interrupt(STOP_SCORING) as how["stop"]:
        how["on_progress"] = lambda at: shown.update(at.done, at.total)
        how["identities"] = partial(open_key, job.pseudonyms)
        outcome = score_archive(job.request, job.out, job.registry, partial(connect, job.cluster, quiet=False), **how)
    counts = outcome.success.model_dump(exclude={"shards"})
    return {"run": outcome.run.store.uri, "closed_folders": outcome.closed_folders, **counts}


if __name__ == "__main__":
    run_job(ScoreJob, work)
