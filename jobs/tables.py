"""Ray job: make the paper's two tables.  python jobs/tables.py --config jobs/tables.yaml"""

from functools import partial
from typing import Any

from pydantic import Field

from cxrgaze_ray.cli.console import say
from cxrgaze_ray.cli.job import run_job
from cxrgaze_ray.cluster.connection import ClusterSettings, connect
from cxrgaze_ray.config import Settings, Uri
from cxrgaze_ray.paper.plan import TablesSettings
from cxrgaze_ray.paper.tables import make_tables
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import ShardStore
from cxrgaze_ray.storage import open_store


class TablesJob(Settings):
    """Contents of tables.yaml."""

    store: Uri
    registry: Uri
    out: Uri
    backbone_weights: Uri | None = None
    workers: int = Field(1, ge=1, le=10_000)
    cluster: ClusterSettings = ClusterSettings()
    settings: TablesSettings = TablesSettings()


def work(job: TablesJob) -> dict[str, Any]:
    store, registry, out = ShardStore.open(job.store), Registry(open_store(job.registry)), open_store(job.out)
    join, how = partial(connect, job.cluster, quiet=False), job.model_dump(include={"workers", "backbone_weights"})
    results, written = make_tables(store, job.settings, registry, out, connect=join, say=say, **how)
    models, left_out = [one.pin.model_dump() for one in results.tested], results.left_out_by_title()
    return {"files": written, "models": models, "left_out": left_out}


if __name__ == "__main__":
    run_job(TablesJob, work)
