"""One Ray Train run that walks all stages, on 1 to N workers."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchTrainer
from safetensors.torch import load

from cxrgaze_ray import telemetry
from cxrgaze_ray.cluster.connection import Connect, find_cause
from cxrgaze_ray.cluster.ray_internals import keeping_ctrl_c
from cxrgaze_ray.errors import ConfigError, UserError
from cxrgaze_ray.models.bundle import Bundle, BundleInfo, Lineage, make_bundle, read_info
from cxrgaze_ray.models.predictor import with_golden
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.radiograph.preprocess import profile_names, profile_sha256
from cxrgaze_ray.registry.ledger.rules import checked_name
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import StoreInfo, Trainable
from cxrgaze_ray.storage import Store, open_parent, open_store
from cxrgaze_ray.training.ahead import Ahead
from cxrgaze_ray.training.checkpoint import Checkpoint, hand_over, read_checkpoint, write_checkpoint
from cxrgaze_ray.training.features import FeatureCache
from cxrgaze_ray.training.feed import Feed, World
from cxrgaze_ray.training.initial import INITIAL, begin, file_sha256
from cxrgaze_ray.training.loop import LoopHooks, run_loop
from cxrgaze_ray.training.rows import HeldRows, StoredRow
from cxrgaze_ray.training.settings import TrainSettings

CHECKPOINT_S = 5.0
"""Least time between checkpoints within a stage: epochs on cached features take milliseconds."""

_DATASET = "store"
_COLUMNS = ["image_id", "label", "image", "gaze", "split"]
_BOARD = "cxrgaze-training-board"


def run_stages(
    store: Trainable,
    settings: TrainSettings,
    registry: Registry,
    *,
    name: str = "cxrgaze",
    parent: str | None = None,
    backbone_weights: str | None = None,
    workers: int = 1,
    connect: Connect = nullcontext,
    say: Callable[[str], None] = lambda _: None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Bundle:
    """Train every stage and return the bundle; the same call resumes a killed training, or returns a finished one.

    Checkpoints and metrics live beside the registry's models, in ``<name>/training/<run>/``, where run hashes store,
    settings and first weights.

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
        Number of Ray Train workers, with a GPU each where the cluster has GPUs.
    connect
        Returns a context manager that joins a Ray cluster; entered once all that the training needs is found.
    say
        Called with a line per epoch, and with warnings.
    on_epoch
        Called with the metrics of every finished epoch.

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
    checked_name(name)
    if parent and backbone_weights:
        raise ConfigError("A training can start from a parent or from backbone weights, not both.", "Give one of them.")
    pin = registry.resolve(parent) if parent else None
    begun_from = read_info(open_store(pin.uri)) if pin else None
    check_store(store.info, begun_from)
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
    say(f"Training {run_name} on {store.rows('train')} images, {workers} worker{'s' if workers > 1 else ''}.")
    for note in settings.notes():
        say(note)
    config = {"settings": settings.model_dump(), "initial": work.locate(INITIAL), "work": work.uri}
    with connect(), _progress(say, on_epoch):
        result = _fit(_trainer(store, config, work, run_name, workers))
    assert result.checkpoint is not None
    with result.checkpoint.as_directory() as folder:
        final = read_checkpoint(Path(folder))
    work.put("metrics.json", json.dumps(final.standing.history, indent=2).encode())
    network = build(settings.network, settings.seed)
    hand_over(network, final.best)
    return with_golden(make_bundle(network, name, trained=True, lineage=lineage, profile=store.info.profile))


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


def _fit(trainer: TorchTrainer) -> ray.train.Result:
    """Train; an error that a worker raised, or returned as the user's, is raised here as itself."""
    try:
        with keeping_ctrl_c():
            result = trainer.fit()
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            if cause := find_cause(failure):
                raise cause from error
        raise
    returned = getattr(result, "return_value", None)  # Ray's declared type is out of date
    if isinstance(returned, UserError):
        raise returned
    return result


def _trainer(store: Trainable, config: dict[str, Any], work: Store, run_name: str, workers: int) -> TorchTrainer:
    filesystem, root = work.filesystem()
    gpus = bool(ray.cluster_resources().get("GPU"))  # type: ignore[no-untyped-call]
    loop: Any = train_loop_per_worker  # declared to return nothing, though Ray Train passes on what it returns
    return TorchTrainer(
        loop,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus, resources_per_worker={"CPU": 1}),
        datasets={_DATASET: store.dataset(_COLUMNS)},
        # every rank reads all rows and keeps its share: a split of the stream would drop the rows that do not divide
        dataset_config=DataConfig(datasets_to_split=[]),
        run_config=RunConfig(
            name=run_name,
            storage_path=f"{root}/ray",
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=2),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )


def train_loop_per_worker(config: dict[str, Any]) -> UserError | None:
    """Load this rank's rows, and walk the stages.

    A user's error is returned: Ray Train would restart a worker that raises one, only to fail again. It is the same
    on every rank, because it comes from settings and rows that all share, or from values that they agreed on.
    """
    try:
        _walk_stages(config)
    except UserError as error:
        return error
    return None


def _walk_stages(config: dict[str, Any]) -> None:
    settings = TrainSettings.build(**config["settings"])
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size())
    torch.set_num_threads(max(1, torch.multiprocessing.cpu_count() // world.size))
    network = build(settings.network, settings.seed)
    hand_over(network, _read_state(config["initial"]))
    rows = _rows()
    device = ray.train.torch.get_device()
    ahead = Ahead(pinned=device.type == "cuda")
    train, validation = (Feed(rows[split], world, settings.seed, ahead=ahead) for split in ("train", "validation"))
    wrap = partial(ray.train.torch.prepare_model, move_to_device=False)
    hooks = LoopHooks(
        wrap=wrap if world.size > 1 else lambda module: module,
        report=_Reporter(world.rank),
        device=device,
        cache=FeatureCache(open_store(config["work"])),
    )
    resume = ray.train.get_checkpoint()
    if resume is None:
        run_loop(network, train, validation, settings, hooks)
        return
    with resume.as_directory() as folder:
        checkpoint = read_checkpoint(Path(folder))
    # the best weights so far are those that the previous stage handed over, or better
    hand_over(network, checkpoint.best)
    run_loop(network, train, validation, settings, hooks, checkpoint)


def _read_state(uri: str) -> dict[str, torch.Tensor]:
    store, key = open_parent(uri)
    return load(store.get(key))


def _rows() -> dict[str, HeldRows]:
    """Read all splits in one pass: a pass costs seconds to start, however few rows it yields."""
    rows: dict[str, list[StoredRow]] = {"train": [], "validation": []}
    shard = ray.train.get_dataset_shard(_DATASET)
    for table in shard.iter_batches(batch_size=64, batch_format="pyarrow", prefetch_batches=1):
        for row in table.to_pylist():
            if (split := row.pop("split")) in rows:
                rows[split].append(StoredRow(**row))
    return {split: HeldRows(held) for split, held in rows.items()}


class _Reporter:
    """Tells Ray Train, the metrics endpoint and the user's terminal of finished epochs."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._kept = time.monotonic()

    def __call__(self, metrics: dict[str, Any], make: Callable[[], Checkpoint], stage_ends: bool) -> None:
        if self._rank == 0:
            self._tell(metrics)
        if not self._due(stage_ends):
            return
        if self._rank != 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(Path(folder), make())
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
        self._kept = time.monotonic()

    def _due(self, stage_ends: bool) -> bool:
        """Return whether to report; the same on every rank, since `report` is a barrier that takes a second or two."""
        due = stage_ends or time.monotonic() - self._kept >= CHECKPOINT_S
        if not dist.is_initialized():
            return due
        flag = torch.tensor([int(due)], device=ray.train.torch.get_device())
        dist.broadcast(flag, 0)
        return bool(flag.item())

    @staticmethod
    def _tell(metrics: dict[str, Any]) -> None:
        stage = metrics["stage"]
        telemetry.record(telemetry.TRAINING_EPOCH, metrics["epoch"], stage=stage)
        for split in ("train", "validation"):
            telemetry.record(telemetry.TRAINING_LOSS, metrics[f"{split}_loss"], stage=stage, split=split)
        ray.get_actor(_BOARD).put.remote(metrics)


def epoch_line(metrics: dict[str, Any]) -> str:
    """Return an epoch's line for the terminal."""
    mark = " *" if metrics["best"] else ""
    return (
        f"{metrics['stage']:<11} epoch {metrics['epoch']:>2}/{metrics['epochs']}  "
        f"train {metrics['train_loss']:.4f}  validation {metrics['validation_loss']:.4f}  "
        f"{metrics['seconds']:.1f} s{mark}"
    )


class _Board:
    """Carries metrics of epochs from the training's worker to the driver."""

    def __init__(self) -> None:
        self._epochs: list[dict[str, Any]] = []

    def put(self, metrics: dict[str, Any]) -> None:
        self._epochs.append(metrics)

    def take(self) -> list[dict[str, Any]]:
        epochs, self._epochs = self._epochs, []
        return epochs


@contextmanager
def _progress(say: Callable[[str], None], on_epoch: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Tell of the board's epochs while a training runs."""
    actor: Any = ray.remote(_Board)
    board, stop = actor.options(name=_BOARD, num_cpus=0).remote(), threading.Event()

    def watch() -> None:
        stopping = False
        while not stopping:  # one more look after the end: the last epochs may have come since the last look
            stopping = stop.wait(0.5)
            for metrics in ray.get(board.take.remote()):
                say(epoch_line(metrics))
                on_epoch(metrics)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        ray.kill(board)
