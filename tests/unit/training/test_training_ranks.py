"""What does not depend on the number of workers: two real processes over gloo, beside one."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from cxrgaze_ray.errors import TrainingDiverged
from cxrgaze_ray.models.gazenet import PRESETS, GazeNet
from cxrgaze_ray.models.settings import TripletMining
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.training.features import BLOCK_BYTES, FeatureCache
from cxrgaze_ray.training.feed import Feed, World
from cxrgaze_ray.training.loop import LoopHooks, run_loop
from cxrgaze_ray.training.recipes import RECIPES, StageName
from cxrgaze_ray.training.rows import StoredRow
from cxrgaze_ray.training.settings import STAGE_NAMES, TrainSettings
from cxrgaze_ray.training.stages import Batch, StageModule
from tests.rows import feed_of, make_rows
from tests.unit.training.test_training import at_rate

MININGS: tuple[TripletMining, ...] = get_args(TripletMining)
BATCH = 4
CASES: list[tuple[StageName, TripletMining]] = [
    *[("contrastive", mining) for mining in MININGS],
    *[(name, "batch_all") for name in STAGE_NAMES[1:]],
]


def rows() -> tuple[list[StoredRow], list[StoredRow]]:
    """Return rows of both splits, the validation's in classes of which no batch mines as many triplets as another.

    Its batches are of 4, 4 and 1 rows: the second holds no triplet of the first kind, the last none and no row for
    the second rank.
    """
    validation = make_rows(9, seed=1)
    labels = [0, 0, 1, 2, 1, 1, 1, 2, 0]
    return make_rows(9), [replace(row, label=label) for row, label in zip(validation, labels, strict=True)]


def network() -> GazeNet:
    """Return a network to which a batch is the sum of its rows: without batch statistics and dropout."""
    built = build(PRESETS["tiny"], seed=3).eval()
    built.classifier.dropout.p = 0.0
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            vars(module)["train"] = partial(_stay, module)
    return built


def _stay(module: nn.Module, _mode: bool = True) -> nn.Module:
    return module


def settings(name: StageName, mining: TripletMining = "batch_all", lr: float = 0.0) -> TrainSettings:
    stages = {name: {"epochs": 1, "batch": BATCH}}
    return at_rate(TrainSettings.for_preset("tiny", [name], backbone="fresh", triplet=mining, stages=stages), name, lr)


def figures(world: World, name: StageName, mining: TripletMining) -> dict[str, float]:
    """Return the losses of an epoch that learns nothing, so that any number of ranks sees the same weights."""
    train, validation = (feed_of(split, world) for split in rows())
    (epoch,) = run_loop(network(), train, validation, settings(name, mining), LoopHooks(wrap=_wrap(world))).history
    return {split: epoch[f"{split}_loss"] for split in ("train", "validation")}


def gradient(world: World, mining: TripletMining) -> list[float]:
    """Return the gradient of the first convolution in the contrastive phase, summed over an epoch."""
    learner = network()
    stage = RECIPES["gazenet"].stages["contrastive"]
    wrapped = _wrap(world)(StageModule(learner, stage, settings("contrastive", mining)).train())
    for batch in feed_of(rows()[0], world).shuffled(0, BATCH, stage.image_size(learner.config)):
        measured = wrapped(batch)
        (measured.loss * measured.share).backward()
    found = learner.densenet.features.conv0.weight.grad
    assert isinstance(found, torch.Tensor)
    values: list[float] = found.flatten()[:50].tolist()
    return values


def features(world: World, folder: str) -> dict[str, Any]:
    """Return which rows this rank computed features of, and the features of all rows."""
    feed, computed = feed_of(make_rows(9), world), []

    def make(batch: Batch) -> torch.Tensor:
        computed.extend(batch.label_B.tolist())
        return batch.image_BCHW.mean(dim=(1, 2, 3))[:, None].expand(-1, features_of_a_row())

    found = FeatureCache(LocalStore(folder)).features(feed, make, of=("weights",), batch=2, size=(32, 32))
    assert found is not None
    return {"computed": len(computed), "features": found.take(np.arange(9))[:, 0].tolist()}


def features_of_a_row() -> int:
    """Return how many numbers fill half a block."""
    return BLOCK_BYTES // 8


def diverged(world: World) -> str:
    """Return what is said where the second rank alone meets a NaN, in its second step."""
    feed = feed_of(rows()[0], world)
    if world.rank == 1:
        feed = _Poisoned(feed.rows, world)
    try:
        run_loop(
            network(), feed, feed_of(rows()[1], world), settings("saliency", lr=1e-4), LoopHooks(wrap=_wrap(world))
        )
    except TrainingDiverged as error:
        return str(error)
    return "nothing"


class _Poisoned(Feed):
    """Deals NaN in the second step."""

    def select(self, _stage: Any) -> Feed:
        return self

    def shuffled(self, *args: Any, **options: Any) -> Any:
        for number, batch in enumerate(super().shuffled(*args)):
            yield replace(batch, image_BCHW=batch.image_BCHW * math.nan) if number == 1 else batch


def _wrap(world: World) -> Any:
    return nn.parallel.DistributedDataParallel if world.size > 1 else lambda module: module


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    world = World(rank, 2)
    found = {
        "figures": {f"{name} {mining}": figures(world, name, mining) for name, mining in CASES},
        "gradients": {mining: gradient(world, mining) for mining in MININGS},
        "said": diverged(world),
        "features": features(world, folder),
    }
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run everything in two processes, once; return what each found."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn(_rank, args=(str(folder),), nprocs=2)  # type: ignore[no-untyped-call]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize(("name", "mining"), CASES)
def test_losses_are_those_of_one_worker(ranks: list[dict[str, Any]], name: StageName, mining: TripletMining) -> None:
    alone = figures(World(), name, mining)
    assert min(alone.values()) > 0
    for found in ranks:
        assert found["figures"][f"{name} {mining}"] == pytest.approx(alone, rel=1e-5)


def test_features_are_computed_once_in_all_and_read_by_every_rank(ranks: list[dict[str, Any]]) -> None:
    alone = features(World(), tempfile.mkdtemp())
    shared = [found["features"] for found in ranks]
    assert shared[0]["features"] == shared[1]["features"] == alone["features"]
    assert [one["computed"] for one in (alone, *shared)] == [1 + 9, 1 + 5, 1 + 4], "a row more tells their shape"


@pytest.mark.parametrize("mining", MININGS)
def test_the_contrastive_gradient_is_that_of_one_worker(ranks: list[dict[str, Any]], mining: TripletMining) -> None:
    alone = gradient(World(), mining)
    assert max(map(abs, alone)) > 1e-4
    for found in ranks:
        assert found["gradients"][mining] == pytest.approx(alone, rel=1e-3, abs=1e-6)


def test_a_nan_on_one_rank_stops_them_all_at_its_step(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["said"] == ranks[1]["said"]
    assert "phase saliency, epoch 1, step 2: the training loss is not finite" in ranks[0]["said"]


def test_a_row_that_only_fills_a_place_is_not_learned_from() -> None:
    module = StageModule(network(), RECIPES["gazenet"].stages["classifier"], settings("classifier"))
    fused = torch.randn(3, module.network.classifier.hidden.in_features, generator=torch.Generator().manual_seed(0))
    empty = torch.empty(3, 0)
    whole = Batch(empty, torch.tensor([0, 1, 2]), empty, fused)
    repeated, first = replace(whole, repeats=1), replace(whole, repeats=1).counted()
    assert len(first.label_B) == 2
    for training in (True, False):
        module.train(training)
        assert torch.equal(module(repeated).loss, module(first).loss)
    assert [module(batch).weight for batch in (whole, repeated, first)] == [3, 2, 2]
    nothing = replace(first, repeats=2, share=0.0)
    assert torch.isfinite(module(nothing).loss)
    assert (module(nothing).weight, module(nothing).share) == (0, 0.0)
