"""Ray job: train the phases and publish the bundle.  python jobs/train.py --config jobs/train.yaml"""

from functools import partial
from typing import Any

from pydantic import Field

from cxrgaze_ray.cli.console import say
from cxrgaze_ray.cli.job import run_job
from cxrgaze_ray.cluster.connection import ClusterSettings, connect
from cxrgaze_ray.config import Name, Settings, Uri
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import ShardStore
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.training.progress import event_files
from cxrgaze_ray.training.publishing import train_and_publish
from cxrgaze_ray.training.recipes import STAGE_ORDER, StageName
from cxrgaze_ray.training.running import CheckpointSettings, Workers, WorkersSetting
from cxrgaze_ray.training.settings import Overrides, Preset, TrainSettings

_HOW = ("name", "parent", "backbone_weights", "workers", "checkpoints", "promote", "reason")


class TrainJob(Settings):
    """Contents of train.yaml; `settings` go over the preset's, `parent` is what --from is to the command."""

    store: Uri
    registry: Uri
    preset: Preset = "full"
    phases: tuple[StageName, ...] | None = Field(None, min_length=1, max_length=len(STAGE_ORDER))
    name: Name = "cxrgaze"
    parent: Uri | None = None
    backbone_weights: Uri | None = None
    workers: WorkersSetting = Workers()
    checkpoints: CheckpointSettings = CheckpointSettings()
    tensorboard: Uri | None = None
    promote: bool = False
    reason: str = Field("", min_length=0, max_length=1000)
    cluster: ClusterSettings = ClusterSettings()
    settings: Overrides = {}


def work(job: TrainJob) -> dict[str, Any]:
    settings = TrainSettings.for_preset(job.preset, job.phases, **job.settings)
    join, registry = partial(connect, job.cluster, quiet=False), Registry(open_store(job.registry))
    how = {name: getattr(job, name) for name in _HOW}
    with event_files(job.tensorboard) as write:
        return train_and_publish(
            ShardStore.open(job.store), settings, registry, connect=join, say=say, on_epoch=write, **how
        ).model_dump()


if __name__ == "__main__":
    run_job(TrainJob, work)
