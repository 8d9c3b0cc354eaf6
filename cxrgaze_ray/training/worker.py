"""One worker of a training: its rows, its network, and where it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from cxrgaze_ray.errors import CxrgazeError, UserError
from cxrgaze_ray.models.network import Network
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.shards import ShardReader, StoreRows
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.telemetry.logs import start_logging
from cxrgaze_ray.training import board
from cxrgaze_ray.training.ahead import MOST_THREADS, Ahead
from cxrgaze_ray.training.checkpoint import Checkpoint, Standing, hand_over, rng_state, snapshot
from cxrgaze_ray.training.features import FeatureCache
from cxrgaze_ray.training.feed import Feed
from cxrgaze_ray.training.figures import Figures
from cxrgaze_ray.training.initial import read_initial
from cxrgaze_ray.training.keeper import Keeper, Make, Writer
from cxrgaze_ray.training.kept import KeptCheckpoints
from cxrgaze_ray.training.loop import LoopHooks, run_loop
from cxrgaze_ray.training.progress import TELL_S, EpochStep
from cxrgaze_ray.training.ranks import World, of_the_first
from cxrgaze_ray.training.requests import HERE
from cxrgaze_ray.training.running import CheckpointSettings, Workers
from cxrgaze_ray.training.settings import TrainSettings

_SPLITS = ("train", "validation")


def train_loop_per_worker(config: dict[str, Any]) -> UserError | None:
    """Walk the stages.

    A user's error is returned: Ray Train would restart a worker that raises one, only to fail again. It is the same
    on every rank, because it comes from settings and rows that all share, or from values that they agreed on.
    """
    try:
        _walk_stages(config)
    except UserError as error:
        return error
    return None


def _walk_stages(config: dict[str, Any]) -> None:
    start_logging()
    settings = TrainSettings.build(**config["settings"])
    context = ray.train.get_context()
    here = context.get_local_world_size()
    world = World(context.get_world_rank(), context.get_world_size(), here)
    torch.set_num_threads(max(1, torch.multiprocessing.cpu_count() // here))
    network = build(settings.network, settings.seed)
    hand_over(network, read_initial(config["initial"]))
    index, reader, device = ray.get(config["index"]), ShardReader(), ray.train.torch.get_device()
    ahead = _ahead(device, torch.multiprocessing.cpu_count() // here)
    train, validation = (Feed(StoreRows(index, split, reader), world, settings.seed, ahead=ahead) for split in _SPLITS)
    how, work, told = (
        CheckpointSettings.build(**config["checkpoints"]),
        open_store(config["work"]),
        _Told(world.rank, device),
    )
    kept = KeptCheckpoints(work, config["run_name"], how.keep)
    writer = Writer(kept.write, told.not_written) if world.rank == 0 else None
    keeper = Keeper(writer, how.minutes * 60, device, HERE.asked, HERE.answer)
    resume = _resume(kept, network, told.say)
    if resume is not None and resume.standing.stage < len(settings.stages):
        told.say(_going_on(resume.standing, settings, world.size))
    elif config["elastic"]:
        told.say(f"Training with {Workers.parse(world.size)}.")
    hooks = _hooks(world, keeper, told, FeatureCache(work, told.say, HERE.nothing_new), device)
    standing = run_loop(network, train, validation, settings, hooks, resume, warm=config["warm"])
    HERE.over()
    keeper.finish()
    if world.rank == 0:
        kept.finish(_end(standing, network, device))


def _ahead(device: torch.device, cores: int) -> Ahead:
    """Beside a GPU a worker's share of the cores has nothing else to do; on CPUs two read while the rest compute."""
    pinned = device.type == "cuda"
    return Ahead(max(2, min(cores, MOST_THREADS)) if pinned else 2, pinned=pinned)


def _hooks(world: World, keeper: Keeper, told: _Told, cache: FeatureCache, device: torch.device) -> LoopHooks:
    def report(metrics: dict[str, Any], make: Make, ends: bool) -> None:
        told.epoch(metrics)
        if ends:
            keeper.keep(make)

    prepare = partial(ray.train.torch.prepare_model, move_to_device=False)
    wrap = prepare if world.size > 1 else lambda module: module
    return LoopHooks(wrap, report, keeper.offer, told.step, device, told.say, cache)


def _resume(kept: KeptCheckpoints, network: Network, say: Callable[[str], None]) -> Checkpoint | None:
    """Return the checkpoint to go on from, the same on every rank, with its best weights in the network."""
    found: dict[str, Checkpoint] = {}

    def look() -> str | None:
        found.update([here] if (here := kept.furthest(say)) else [])
        return next(iter(found), None)

    key = of_the_first(look)
    if key is None:
        return None
    checkpoint = found[key] if found else kept.read(key)
    # the best weights so far are those that the previous stage handed over, or better
    hand_over(network, checkpoint.best)
    return checkpoint


def _going_on(standing: Standing, settings: TrainSettings, workers: int) -> str:
    """Return a sentence that says where a training goes on, and with how many workers."""
    phase, within = list(settings.stages)[standing.stage], standing.within
    where = f"epoch {standing.epoch}"
    if within is not None and within.part == "before":
        where = f"before epoch 1, validation step {within.steps}"
    elif within is not None:
        where = f"epoch {standing.epoch + 1}, {'validation ' * (within.part == 'validation')}step {within.steps}"
    return f"Going on after phase {phase}, {where}, with {Workers.parse(workers)}."


def _end(standing: Standing, network: Network, device: torch.device) -> Checkpoint:
    final = snapshot(network)
    return Checkpoint(standing, model=final, best=final, optimiser={}, rng=[rng_state(device)])


class _Told:
    """Tells the metrics endpoint and the user's terminal what happens, for the first rank."""

    def __init__(self, rank: int, device: torch.device) -> None:
        self._first = rank == 0
        self._figures = Figures(device.type) if self._first else None
        self._board: Any = ray.get_actor(board.NAME)
        HERE.begin(self._board if self._first else None)
        self._stepped = 0.0

    def say(self, text: str) -> None:
        if self._first:
            self._board.say.remote(text)

    def step(self, step: EpochStep) -> None:
        over = step.images == step.of
        if self._figures is not None and (over or time.monotonic() - self._stepped >= TELL_S):
            self._stepped = time.monotonic()
            self._figures.step(step)
            self._board.step.remote(step)

    def epoch(self, metrics: dict[str, Any]) -> None:
        if self._figures is not None:
            self._figures.epoch(metrics)
            self._board.put.remote(metrics)

    def not_written(self, error: Exception) -> None:
        what = str(error) if isinstance(error, CxrgazeError) else f"{type(error).__name__} was raised."
        self.say(f"Warning: a checkpoint was not written, and the training goes on: {what}")
