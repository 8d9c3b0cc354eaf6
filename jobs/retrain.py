"""Ray job: decide, train a candidate, have it judged.  python jobs/retrain.py --config jobs/retrain.yaml"""

from functools import partial
from typing import Any

from cxrgaze_ray.cli.console import say
from cxrgaze_ray.cli.job import run_job
from cxrgaze_ray.cluster.connection import ClusterSettings, connect
from cxrgaze_ray.lifecycle.retraining import Hooks, RetrainSettings, run_retraining
from cxrgaze_ray.lifecycle.retraining.decide import Reason


class RetrainJob(RetrainSettings):
    """Contents of retrain.yaml: what `cxrgaze retrain` reads, and these."""

    reason: Reason = "schedule"
    cluster: ClusterSettings = ClusterSettings()


def work(job: RetrainJob) -> dict[str, Any]:
    connected = partial(connect, job.cluster, quiet=False)
    return run_retraining(job, job.reason, connected, Hooks(say=say)).summary()


if __name__ == "__main__":
    run_job(RetrainJob, work)
