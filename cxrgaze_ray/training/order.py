"""A whole training as one settings file says it: what `cxrgaze train` has as options."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from cxrgaze_ray.cluster.connection import Connect
from cxrgaze_ray.config import Name, Settings, Uri
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import ShardStore
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.training.progress import event_files
from cxrgaze_ray.training.publishing import train_and_publish
from cxrgaze_ray.training.recipes import STAGE_ORDER, StageName
from cxrgaze_ray.training.running import CheckpointSettings, Workers, WorkersSetting
from cxrgaze_ray.training.settings import Overrides, Preset, TrainSettings


class TrainOrder(Settings):
    """Which training is wanted; `settings` go over the preset's, `parent` is what --from is to the command."""

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
    settings: Overrides = {}


def train_as_ordered(order: TrainOrder, connect: Connect, say: Callable[[str], None]) -> ModelPin:
    """Train and publish what an order asks for: see `train_and_publish`."""
    with event_files(order.tensorboard) as write:
        return train_and_publish(
            ShardStore.open(order.store),
            TrainSettings.for_preset(order.preset, order.phases, **order.settings),
            Registry(open_store(order.registry)),
            name=order.name,
            parent=order.parent,
            backbone_weights=order.backbone_weights,
            workers=order.workers,
            checkpoints=order.checkpoints,
            promote=order.promote,
            reason=order.reason,
            connect=connect,
            say=say,
            on_epoch=write,
        )
