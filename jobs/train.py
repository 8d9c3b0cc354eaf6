"""Ray job: train the phases and publish the bundle.  python jobs/train.py --config jobs/train.yaml"""

from functools import partial
from typing import Any

from cxrgaze_ray.cli.console import say
from cxrgaze_ray.cli.job import run_job
from cxrgaze_ray.cluster.connection import ClusterSettings, connect
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.reports.evaluation_page import training_page
from cxrgaze_ray.shards import ShardStore
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.training.order import TrainOrder, foretell_order, train_as_ordered


class TrainJob(TrainOrder):
    """Contents of train.yaml."""

    cluster: ClusterSettings = ClusterSettings()


def work(job: TrainJob) -> dict[str, Any]:
    if job.dry_run:
        return foretell_order(job, say, job.cluster).told()
    pin = train_as_ordered(job, partial(connect, job.cluster, quiet=False), say)
    page = training_page(Registry(open_store(job.registry)), pin, ShardStore.open(job.store).info.sha256())
    return pin.model_dump() | {"report": page}


if __name__ == "__main__":
    run_job(TrainJob, work)
