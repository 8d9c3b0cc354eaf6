"""One Ray Train run that walks all stages, on 1 to N workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from cxrgaze_ray.cluster.connection import Connect
from cxrgaze_ray.errors import ConfigError, UserError
from cxrgaze_ray.models.bundle import Bundle, BundleInfo, Lineage, make_bundle, read_info
from cxrgaze_ray.models.curves import curves_of
from cxrgaze_ray.models.parts import notes_on_parts
from cxrgaze_ray.models.predictor import with_golden
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.radiograph.preprocess import profile_names, profile_sha256
from cxrgaze_ray.registry.ledger.rules import checked_name
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import ShardReader, StoreIndex, StoreInfo, StoreRows, Trainable, index_store
from cxrgaze_ray.storage import Store, open_store
from cxrgaze_ray.storage.lease import Lease
from cxrgaze_ray.training.beforehand import check_rows, warnings_of
from cxrgaze_ray.training.board import told
from cxrgaze_ray.training.checkpoint import hand_over
from cxrgaze_ray.training.initial import INITIAL, begin, file_sha256
from cxrgaze_ray.training.kept import KeptCheckpoints
from cxrgaze_ray.training.progress import EpochStep
from cxrgaze_ray.training.running import CheckpointSettings, Workers
from cxrgaze_ray.training.settings import TrainSettings
from cxrgaze_ray.training.trainer import fit, make_trainer

SPLITS = ("train", "validation", "test")
"""Splits whose rows are looked over before a training."""


def run_stages(
    store: Trainable,
    settings: TrainSettings,
    registry: Registry,
    *,
    name: str = "cxrgaze",
    parent: str | None = None,
    backbone_weights: str | None = None,
    workers: int | Workers = 1,
    checkpoints: CheckpointSettings | None = None,
    connect: Connect = nullcontext,
    say: Callable[[str], None] = lambda _: None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda _: None,
    on_step: Callable[[EpochStep], None] = lambda _: None,
) -> Bundle:
    """Train every stage and return the bundle; the same call resumes a killed training, or returns a finished one.

    Checkpoints and metrics live beside the registry's models, in ``<name>/training/<run>/``, where run hashes store,
    settings and first weights. The number of workers is no part of that: another one may go on.

    Parameters
    ----------
    store
        Store with train and validation splits.
    settings
        Settings of the training: preset and stages.
    registry
        Registry that resolves `parent` and holds the checkpoints.
    name
        Name of the model.
    parent
        Model from whose weights to start.
    backbone_weights
        URI of DenseNet's first weights; not with a parent, which has its own.
    workers
        Number of Ray Train workers, with a GPU each where the cluster has GPUs; or from how many to how many, as there
        is room, so that a training goes on when nodes go or come.
    checkpoints
        How often the training is saved.
    connect
        Returns a context manager that joins a Ray cluster; entered once all that the training needs is found.
    say
        Called with a line per epoch, and with warnings.
    on_epoch
        Called with the metrics of every finished epoch.
    on_step
        Called now and then with where the training is within an epoch.

    Raises
    ------
    UserError
        See `check_store`; also if the training is impossible, because parent and backbone are both given or there is no
        image to learn from.
    RegistryError
        If the name can't be published, or the parent does not exist.
    TrainingDiverged
        If a loss, gradient or weight was not finite.
    """
    pin, begun_from = check_beginning(store, registry, name, parent, backbone_weights)
    run_name = training_name(store, settings, pin, backbone_weights)
    work = work_store(registry, name, run_name)
    lineage = Lineage(
        store_sha256=store.info.sha256(),
        stores=store.parts,
        parent=f"{pin.name}@{pin.version}" if pin else None,
        parent_phases=begun_from.phases if begun_from else None,
        settings=settings.model_dump(mode="json"),
        split_by=store.info.split_by,
        caution=store.info.caution(),
    )
    lineage = begin(work, settings, lineage, pin, backbone_weights, say)
    how = checkpoints or CheckpointSettings()
    kept = KeptCheckpoints(work, run_name, how.keep)
    final = kept.end(len(settings.stages))
    if final is None:
        chosen = Workers.parse(workers)
        say(f"Training {run_name} on {store.rows('train')} images, {chosen}.")
        for note in notes_of(settings, begun_from):
            say(note)
        config = {
            "settings": settings.model_dump(),
            "initial": work.locate(INITIAL),
            "work": work.uri,
            "run_name": run_name,
            "checkpoints": how.model_dump(),
            "elastic": chosen.elastic,
            "warm": pin is not None,
        }
        with _alone(work, say), connect(), told(chosen, say, on_epoch, on_step) as board:
            index = index_store(store, SPLITS)
            for warning in look_over(index, settings):
                say(warning)
            fit(make_trainer(index, config, work, run_name, chosen, board), kept, board, say)
        final = kept.end(len(settings.stages))
    assert final is not None
    work.put("metrics.json", json.dumps(final.standing.history, indent=2).encode())
    network = build(settings.network, settings.seed)
    hand_over(network, final.best)
    bundle = make_bundle(network, name, trained=True, lineage=lineage, profile=store.info.profile)
    return with_golden(bundle.with_curves(curves_of(final.standing.history)))


def _alone(work: Store, say: Callable[[str], None]) -> Lease:
    """Hold a training's folder: two commands there would take each other's features away, and train twice."""
    watching = "Watching for {:.0f} s if another command is at this training."
    hint = "Wait for it to end: the same command then has its result."
    return Lease(work, lambda s: say(watching.format(s)), what="training", hint=hint)


def check_beginning(
    store: Trainable, registry: Registry, name: str, parent: str | None, backbone_weights: str | None
) -> tuple[ModelPin | None, BundleInfo | None]:
    """Check what a training starts from, before anything is written; return the parent, and what its bundle says.

    Raises as `run_stages` does.
    """
    checked_name(name)
    if parent and backbone_weights:
        raise ConfigError("A training can start from a parent or from backbone weights, not both.", "Give one of them.")
    pin = registry.resolve(parent) if parent else None
    begun_from = read_info(open_store(pin.uri)) if pin else None
    check_store(store.info, begun_from)
    return pin, begun_from


def notes_of(settings: TrainSettings, begun_from: BundleInfo | None) -> list[str]:
    """Return sentences on what a training's phases leave of the network, and on what its settings do not do."""
    before = begun_from.phases if begun_from else ()
    return [*notes_on_parts(settings.system, before, settings.stages), *settings.notes()]


def look_over(index: StoreIndex, settings: TrainSettings) -> list[str]:
    """Check that a store has rows for every phase, and return warnings about them; see `training.beforehand`."""
    train, validation, test = rows_of(index)
    check_rows(train, validation, settings, settings.stages)
    return warnings_of(train, validation, test, settings)


def rows_of(index: StoreIndex) -> tuple[StoreRows, StoreRows, StoreRows]:
    """Return the rows of the train, validation and test split."""
    reader = ShardReader()
    train, validation, test = (StoreRows(index, split, reader) for split in SPLITS)
    return train, validation, test


def training_name(
    store: Trainable, settings: TrainSettings, parent: ModelPin | None = None, backbone_weights: str | None = None
) -> str:
    """Return the name that `run_stages` gives a training: the same store, settings and first weights give the same."""
    return settings.run_name(
        store.info.sha256(),
        parent.weights_sha256 if parent else None,
        file_sha256(backbone_weights) if backbone_weights else None,
    )


def work_store(registry: Registry, name: str, run_name: str) -> Store:
    """Return the folder of a training, beside the registry's models."""
    return registry.store.child(f"{name}/training/{run_name}")


def check_store(info: StoreInfo, parent: BundleInfo | None = None) -> None:
    """Check that a store's images can be learned from.

    Raises
    ------
    UserError
        If this version does not have its profile: the bundle would be refused.
    BundleError
        If the parent learned from images of another profile.
    """
    if info.profile not in profile_names() or profile_sha256(info.profile) != info.profile_sha256:
        raise UserError(f"This version does not have the store's profile {info.profile}.", "Ingest the archive again.")
    if parent is not None:
        parent.check_profile(info.profile, info.profile_sha256)
