"""What does not depend on the number of workers: two real processes over gloo, beside one."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial, partialmethod
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn
from torch.multiprocessing.spawn import spawn

from cxrgaze_ray.errors import RunConflict, TrainingDiverged
from cxrgaze_ray.models.gazenet import PRESETS, GazeNet
from cxrgaze_ray.models.settings import System, TripletMining
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.storage import LocalStore, ObjectInfo
from cxrgaze_ray.training.features import BLOCK_BYTES, FeatureCache
from cxrgaze_ray.training.feed import Feed
from cxrgaze_ray.training.loop import LoopHooks, run_loop
from cxrgaze_ray.training.ranks import World, of_the_first
from cxrgaze_ray.training.recipes import RECIPES, StageName
from cxrgaze_ray.training.rows import StoredRow
from cxrgaze_ray.training.settings import STAGE_NAMES, TrainSettings
from cxrgaze_ray.training.stages import Batch, StageModule
from cxrgaze_ray.training.together import work_together
from tests.rows import feed_of, make_rows
from tests.unit.training.test_training import at_rate

pytestmark = pytest.mark.long

MININGS: tuple[TripletMining, ...] = get_args(TripletMining)
BATCH = 4
CASES: list[tuple[StageName, TripletMining]] = [
    *[("contrastive", mining) for mining in MININGS],
    *[(name, "batch_all") for name in STAGE_NAMES[1:]],
]

SYSTEMS: list[tuple[System, StageName]] = [
    ("gazenet", "contrastive"),
    ("gazenet", "encoder"),
    ("unet-s", "saliency"),
    ("gazegnn", "diagnosis"),
    ("inception-resnet-v2", "diagnosis"),
]
SYNCED = 1e-3
"""Most that a loss may differ in the first epochs, as a share of it: rounding grows where batch norms learn."""

LEAST_SAME = 1e-2
"""Most that a step's gradient may differ, as a share of its norm; of all but Inception-ResNet-v2's it is a tenth."""


def rows() -> tuple[list[StoredRow], list[StoredRow]]:
    """Return rows of both splits, the validation's in classes of which no batch mines as many triplets as another.

    Its batches are of 4, 4 and 1 rows: the second holds no triplet of the first kind, the last none and no row for
    the second rank.
    """
    validation = make_rows(9, seed=1)
    labels = [0, 0, 1, 2, 1, 1, 1, 2, 0]
    ids = (f"validation-{number}" for number in range(9))
    chosen = zip(validation, labels, ids, strict=True)
    return make_rows(9), [replace(row, label=label, image_id=image_id) for row, label, image_id in chosen]


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
    """Return the losses of an epoch that learns, of a network whose batch norms are frozen, with its dropout."""
    learner, chosen = network(), settings(name, mining, lr=1e-3)
    learner.classifier.dropout.p = 0.25
    train, validation = (feed_of(split, world) for split in rows())
    (epoch,) = run_loop(learner, train, validation, chosen, LoopHooks(wrap=_wrap(world))).history
    return {split: epoch[f"{split}_loss"] for split in ("train", "validation")}


def normalised(world: World, *, sync: bool = True) -> list[float]:
    """Return the losses of two epochs of a network whose batch norms learn."""
    stages = {"encoder": {"epochs": 2, "batch": BATCH, "lr": 1e-3}}
    chosen = TrainSettings.for_preset("tiny", ["encoder"], backbone="fresh", stages=stages, sync_batchnorm=sync)
    train, validation = (feed_of(split, world) for split in rows())
    standing = run_loop(build(chosen.network, seed=3), train, validation, chosen, LoopHooks(wrap=_wrap(world)))
    return [epoch[f"{split}_loss"] for epoch in standing.history for split in ("train", "validation")]


def steps(world: World, system: System, name: StageName) -> list[Step]:
    """Return what each step of five rows is, a whole batch and one that has no row for the second rank."""
    chosen = TrainSettings.for_preset("tiny", [name], system=system, backbone="fresh")
    learner, stage = build(chosen.network, seed=3), RECIPES[system].stages[name]
    module = StageModule(learner, stage, chosen, work_together(learner, world, norms=True)).train()
    wrapped, found = _wrap(world)(module), []
    feed = feed_of(make_rows(5), world).select(stage)
    for batch in feed.shuffled(0, BATCH, stage.image_size(learner.config), augment=True):
        learner.zero_grad()
        measured = wrapped(batch)
        (measured.loss * measured.share).backward()
        total = measured.loss.detach() * measured.share / world.size
        if world.size > 1:
            dist.all_reduce(total)
        gradient = [p.grad.flatten() for p in learner.parameters() if p.grad is not None]
        running = [tensor.flatten() for key, tensor in learner.named_buffers() if "running" in key]
        found.append(Step(float(total), torch.cat(gradient), torch.cat(running)))
    return found


class Step(NamedTuple):
    """Loss, gradient and running statistics."""

    loss: float
    gradient: torch.Tensor
    running: torch.Tensor


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

    store = _Late(folder) if world.rank else LocalStore(folder)
    found = FeatureCache(store).features(feed, make, of=("weights",), batch=2, size=(32, 32))
    assert found is not None
    return {"computed": len(computed), "features": found.take(np.arange(9))[:, 0].tolist()}


class _Late(LocalStore):
    """Shows blocks that are not there, as to a rank that looked before the first one had removed them."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (ObjectInfo(f"{prefix}block-{number:06d}.safetensors", 1, "") for number in range(9))


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


def compiled(world: World, *, works: bool) -> dict[str, Any]:
    """Return losses, and what was said, of a phase that is compiled; `works` or not on the second rank."""

    def backend(graph: Any, _inputs: object) -> Any:
        if not works and world.rank == 1:
            raise RuntimeError("There is no compiler on this machine.")
        return graph.forward

    said: list[str] = []
    chosen = settings("encoder", lr=1e-3).model_copy(update={"compile": True})
    train, validation = (feed_of(split, world) for split in rows())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
        hooks = LoopHooks(wrap=_wrap(world), tell=said.append)
        (epoch,) = run_loop(build(PRESETS["tiny"], seed=3), train, validation, chosen, hooks).history
    of_it = [line for line in said if "no epoch of phase" not in line]
    return {"losses": [epoch["train_loss"], epoch["validation_loss"]], "said": of_it}


def conflict(world: World) -> str:
    """Return what every rank is told where the first alone finds that it can't go on."""

    def look() -> str:
        raise RunConflict("It is of a later version.", "Update.")

    try:
        return of_the_first(look)
    except RunConflict as error:
        return f"{world.size}: {error}"


def _wrap(world: World) -> Any:
    return nn.parallel.DistributedDataParallel if world.size > 1 else lambda module: module


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    world = World(rank, 2)
    found = {
        "figures": {f"{name} {mining}": figures(world, name, mining) for name, mining in CASES},
        "gradients": {mining: gradient(world, mining) for mining in MININGS},
        "normalised": normalised(world),
        "apart": normalised(world, sync=False),
        "said": diverged(world),
        "compiled": {name: compiled(world, works=works) for name, works in (("all", True), ("one", False))},
        "conflict": conflict(world),
        "features": features(world, folder),
        "steps": f"{folder}/{rank}.safetensors",
    }
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    made = {f"{system} {name}": steps(world, system, name) for system, name in SYSTEMS}
    tensors = {
        f"{case} {number} {what}": torch.as_tensor(value)
        for case, taken in made.items()
        for number, step in enumerate(taken)
        for what, value in step._asdict().items()
    }
    save_file(tensors, f"{folder}/{rank}.safetensors")
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


@pytest.mark.parametrize(("system", "name"), SYSTEMS)
def test_a_step_is_that_of_one_worker_where_batch_norms_learn(
    ranks: list[dict[str, Any]], system: System, name: StageName
) -> None:
    shared = load_file(ranks[0]["steps"])
    for number, alone in enumerate(steps(World(), system, name)):
        loss, gradient, running = (shared[f"{system} {name} {number} {what}"] for what in Step._fields)
        assert float(loss) == pytest.approx(alone.loss, rel=1e-5)
        torch.testing.assert_close(running, alone.running, rtol=1e-5, atol=1e-6)
        assert float((gradient - alone.gradient).norm()) <= LEAST_SAME * float(alone.gradient.norm())


def test_ranks_agree_on_what_is_compiled(ranks: list[dict[str, Any]]) -> None:
    """One of them that can't would be out of step with the others: none does then, and losses are the same."""
    for found in ranks:
        assert found["compiled"]["all"]["said"] == []
        assert found["compiled"]["all"]["losses"] == pytest.approx(found["compiled"]["one"]["losses"], rel=1e-4)
    told = [found["compiled"]["one"]["said"] for found in ranks]
    assert told == [
        ["torch.compile does not work for another worker: going on without it."],
        ["torch.compile does not work here (BackendCompilerFailed): going on without it."],
    ]


def test_what_the_first_rank_finds_wrong_ends_all(ranks: list[dict[str, Any]]) -> None:
    assert [found["conflict"] for found in ranks] == ["2: It is of a later version. Update."] * 2


def test_losses_stay_near_those_of_one_worker_where_batch_norms_learn(ranks: list[dict[str, Any]]) -> None:
    alone = normalised(World())
    for found in ranks:
        assert found["normalised"] == pytest.approx(alone, rel=SYNCED)
    assert ranks[0]["apart"] != pytest.approx(alone, rel=10 * SYNCED), "each by its own rows they are others"


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
