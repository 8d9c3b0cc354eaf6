"""A whole training as one settings file says it: what `cxrgaze train` has as options."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypedDict

from pydantic import Field

from cxrgaze_ray.cluster.connection import ClusterSettings, Connect
from cxrgaze_ray.config import Name, Settings, Uri
from cxrgaze_ray.models.bundle import read_info
from cxrgaze_ray.registry.mlflow_tracking import Tracking, check_tracking, tracked
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import ShardStore
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.training.foretell import Foretold, foretell
from cxrgaze_ray.training.progress import EpochStep, check_event_files, event_files
from cxrgaze_ray.training.publishing import train_and_publish
from cxrgaze_ray.training.recipes import STAGE_ORDER, StageName
from cxrgaze_ray.training.run import training_name
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
    tracking: Uri | None = None
    """MLflow's tracking URI, where losses and figures are mirrored."""

    promote: bool = False
    reason: str = Field("", min_length=0, max_length=1000)
    dry_run: bool = False
    """Check everything, measure a step of each phase and say how long it will take; train nothing."""

    settings: Overrides = {}

    def training(self) -> TrainSettings:
        """Return the settings of the training."""
        return TrainSettings.for_preset(self.preset, self.phases, **self.settings)

    def what(self) -> _What:
        """Return what `train_and_publish` and `foretell` are both told."""
        return {
            "name": self.name,
            "parent": self.parent,
            "backbone_weights": self.backbone_weights,
            "workers": self.workers,
            "checkpoints": self.checkpoints,
            "promote": self.promote,
            "reason": self.reason,
        }


class _What(TypedDict):
    name: str
    parent: str | None
    backbone_weights: str | None
    workers: Workers
    checkpoints: CheckpointSettings
    promote: bool
    reason: str


def train_as_ordered(
    order: TrainOrder,
    connect: Connect,
    say: Callable[[str], None],
    on_step: Callable[[EpochStep], None] = lambda _: None,
) -> ModelPin:
    """Train and publish what an order asks for: see `train_and_publish`."""
    store, settings, registry = ShardStore.open(order.store), order.training(), Registry(open_store(order.registry))
    with event_files(order.tensorboard) as write, _tracked(order, store, settings, registry) as mirror:

        def on_epoch(metrics: dict[str, Any]) -> None:
            write(metrics)
            if mirror is not None:
                mirror.epoch(metrics)

        pin = train_and_publish(
            store, settings, registry, **order.what(), connect=connect, say=say, on_epoch=on_epoch, on_step=on_step
        )
        if mirror is not None:
            words = {"version": f"{pin.name}@{pin.version}", "weights_sha256": pin.weights_sha256, "store": order.store}
            mirror.result(read_info(open_store(pin.uri)).metrics, words | {"promoted": order.promote})
    return pin


def _tracked(
    order: TrainOrder, store: ShardStore, settings: TrainSettings, registry: Registry
) -> AbstractContextManager[Tracking | None]:
    if order.tracking is None:
        return nullcontext()
    parent = registry.resolve(order.parent) if order.parent else None
    return tracked(order.tracking, f"{order.name} {training_name(store, settings, parent, order.backbone_weights)}")


def foretell_order(order: TrainOrder, say: Callable[[str], None], cluster: ClusterSettings | None = None) -> Foretold:
    """Check an order and say what it would take: see `foretell`."""
    check_event_files(order.tensorboard)
    check_tracking(order.tracking)
    return foretell(
        ShardStore.open(order.store),
        order.training(),
        Registry(open_store(order.registry)),
        **order.what(),
        cluster=cluster,
        say=say,
    )
