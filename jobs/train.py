"""Ray job: train the phases and publish the bundle.  python jobs/train.py --config jobs/train.yaml"""

from functools import partial
from typing import Any

from cxrgaze_ray.cli.console import say
from cxrgaze_ray.cli.job import run_job
from cxrgaze_ray.cluster.connection import ClusterSettings, connect
from cxrgaze_ray.training.order import TrainOrder, foretell_order, train_as_ordered


class TrainJob(TrainOrder):
    """Contents of train.yaml."""

    cluster: ClusterSettings = ClusterSettings()


def work(job: TrainJob) -> dict[str, Any]:
    if job.dry_run:
        return foretell_order(job, say, elsewhere=job.cluster.address is not None).told()
    return train_as_ordered(job, partial(connect, job.cluster, quiet=False), say).model_dump()


if __name__ == "__main__":
    run_job(TrainJob, work)
