"""The training loop, without Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cxrgaze_ray.errors import BundleError, ConfigError, UserError
from cxrgaze_ray.models.curves import curves_of
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.network import DenseNetNetwork, Network
from cxrgaze_ray.models.settings import architecture
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.radiograph.preprocess import DEFAULT_PROFILE, profile_sha256
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import ShardStore, SplitSettings
from cxrgaze_ray.shards.store import StoreInfo
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.training import steps
from cxrgaze_ray.training.checkpoint import Checkpoint, hand_over, snapshot
from cxrgaze_ray.training.feed import Feed
from cxrgaze_ray.training.loop import LoopHooks, run_loop
from cxrgaze_ray.training.optimisers import plateaus
from cxrgaze_ray.training.ranks import World
from cxrgaze_ray.training.recipes import RECIPES, StageName
from cxrgaze_ray.training.rows import HeldRows, Pixels
from cxrgaze_ray.training.run import run_stages
from cxrgaze_ray.training.settings import STAGE_NAMES, TrainSettings
from cxrgaze_ray.training.stages import StageModule
from cxrgaze_ray.training.steps import Steps
from tests.rows import feed_of, make_rows

TRAIN, VALIDATION = make_rows(9), make_rows(6, seed=1)


class Stopped(Exception):
    """Stands for a kill."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Make sums come in one order."""
    torch.set_num_threads(1)


def settings(*phases: StageName, **stage: Any) -> TrainSettings:
    values = {"epochs": 1, "batch": 3} | stage
    return TrainSettings.for_preset("tiny", list(phases), backbone="fresh", stages=dict.fromkeys(phases, values))


def at_rate(chosen: TrainSettings, name: StageName, lr: float) -> TrainSettings:
    """Return settings with a learning rate that no file may ask for."""
    stage = chosen.stages[name].model_copy(update={"lr": lr})
    return chosen.model_copy(update={"stages": {**chosen.stages, name: stage}})


def feeds() -> tuple[Feed, Feed]:
    return feed_of(TRAIN), feed_of(VALIDATION)


def train(
    chosen: TrainSettings, network: Network | None = None, **options: Any
) -> tuple[Network, list[dict[str, Any]]]:
    network = network or build(PRESETS["tiny"], seed=3)
    how = {name: options.pop(name) for name in ("resume", "warm") if name in options}
    standing = run_loop(network, *feeds(), chosen, LoopHooks(**options), **how)
    return network, standing.history


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


def learning_names(network: Network, name: StageName, *, parameters_only: bool = False) -> set[str]:
    module = StageModule(network, RECIPES["gazenet"].stages[name], settings(name))
    learning = module.learning()
    tensors = {id(p) for part in learning for p in part.parameters()}
    if not parameters_only:
        tensors |= {id(b) for part in learning for b in part.buffers()}
    named = [*network.named_parameters(), *network.named_buffers()]
    return {key for key, tensor in named if id(tensor) in tensors}


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_a_phase_changes_its_own_parts_and_not_a_byte_of_the_others(name: StageName) -> None:
    network = build(PRESETS["tiny"], seed=3)
    before = snapshot(network)
    train(settings(name, batch=6), network)
    touched = changed(before, snapshot(network))
    assert touched <= learning_names(network, name)
    assert learning_names(network, name, parameters_only=True) & touched


@pytest.mark.parametrize(
    ("name", "drifts"),
    [
        ("contrastive", set()),
        ("encoder", set()),
        ("saliency", {"densenet"}),
        ("classifier", {"densenet", "encoder", "decoder"}),
        ("joint", {"densenet"}),
    ],
)
def test_the_release_s_drift_moves_frozen_buffers_and_no_frozen_parameter(name: StageName, drifts: set[str]) -> None:
    drifting = settings(name, batch=6).model_copy(update={"legacy_batchnorm_drift": True})
    network = build(drifting.network, seed=3)
    before = snapshot(network)
    assert drifting.cache_features
    train(drifting, network)
    outside = changed(before, snapshot(network)) - learning_names(network, name)
    assert {tensor.partition(".")[0] for tensor in outside} == drifts
    assert all("running_" in tensor or tensor.endswith("num_batches_tracked") for tensor in outside)


@pytest.mark.long
@pytest.mark.parametrize("drifting", [False, True])
@pytest.mark.parametrize("name", STAGE_NAMES)
def test_how_good_a_phase_was_before_is_known_and_changes_nothing(
    name: StageName, drifting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(name, batch=6).model_copy(update={"legacy_batchnorm_drift": drifting})
    network, (first, *_) = train(chosen)
    assert 0 < first["before"] < 20
    assert all("before" not in epoch for epoch in _)
    validate = Steps.validate

    def without(steps: Steps, epoch: int, *arguments: Any) -> float:
        return 1.0 if epoch == 0 else validate(steps, epoch, *arguments)

    monkeypatch.setattr(Steps, "validate", without)
    unseen, (other, *_) = train(chosen)
    assert not changed(snapshot(unseen), snapshot(network))
    assert (other["train_loss"], other["before"]) == (first["train_loss"], 1.0)


def test_what_a_setting_does_not_do_to_the_letter_is_said() -> None:
    chosen = settings("encoder", "classifier", batch=16)
    assert chosen.notes() == []
    drifting = chosen.model_copy(update={"legacy_batchnorm_drift": True})
    assert drifting.notes() == ["Phase classifier does not cache its features: they drift with the batch-norm buffers."]
    assert not drifting.model_copy(update={"cache_features": False}).notes()
    idle = settings("encoder").model_copy(update={"legacy_batchnorm_drift": True, "triplet": "batch_hard"})
    assert ["no effect" in note for note in idle.notes()] == [True, True]


@pytest.mark.long
def test_augmented_images_are_not_cached_and_that_is_said() -> None:
    chosen = settings("classifier", batch=6, epochs=2, patience=5, augment=True)
    assert chosen.notes() == [
        "Phase classifier does not cache its features: its images are augmented, differently in every epoch."
    ]
    uncached = chosen.model_copy(update={"cache_features": False})
    assert uncached.notes() == []
    (network, history), (expected, _) = train(chosen), train(uncached)
    assert len(history) == 2
    assert not changed(snapshot(expected), snapshot(network))
    plain, _ = train(settings("classifier", batch=6, epochs=2, patience=5))
    assert changed(snapshot(plain), snapshot(network)), "what is learned from augmented images differs"


@pytest.mark.long
@pytest.mark.parametrize("name", ["encoder", "saliency"])
def test_a_phase_ends_with_the_weights_of_its_lowest_validation_loss(name: StageName) -> None:
    network = build(PRESETS["tiny"], seed=3)

    @torch.no_grad()
    def spoil(metrics: dict[str, Any], _make: Callable[[], Checkpoint], _ends: bool) -> None:
        if metrics["epoch"] == 2:
            for part in StageModule(network, RECIPES["gazenet"].stages[name], settings(name)).learning():
                for parameter in part.parameters():
                    parameter.mul_(3)

    _, history = train(settings(name, epochs=3), network, report=spoil)
    losses = [epoch["validation_loss"] for epoch in history]
    assert losses[-1] > 1.1 * min(losses), "the last epoch is the best one: this training shows nothing"
    module = StageModule(network, RECIPES["gazenet"].stages[name], settings(name)).eval()
    batches = list(feed_of(VALIDATION).in_order(3, RECIPES["gazenet"].stages[name].image_size(network.config)))
    with torch.no_grad():
        now = sum(float(module(batch).loss) for batch in batches) / len(batches)
    assert now == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize("warm", [True, False])
def test_a_phase_that_only_makes_a_trained_model_worse_leaves_it_as_it_is(warm: bool) -> None:
    chosen, told = at_rate(settings("classifier", epochs=2), "classifier", 1e3), list[str]()
    network = build(PRESETS["tiny"], seed=3)
    before = snapshot(network)
    _, history = train(chosen, network, tell=told.append, warm=warm)
    assert bool(changed(before, snapshot(network))) is not warm
    assert history[0]["best"] is not warm
    assert curves_of(history)[0].best == (0 if warm else min(history, key=lambda one: one["validation_loss"])["epoch"])
    assert len(told) == 1
    assert "no epoch of phase classifier was better than the weights that it began with" in told[0]


def test_training_learns() -> None:
    _, history = train(settings("saliency", epochs=4, lr=2e-3))
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]


def test_a_phase_stops_when_patience_ends() -> None:
    chosen = settings("classifier", epochs=20, lr=1e-30, patience=2)
    _, history = train(chosen)
    assert [epoch["best"] for epoch in history] == [True, False, False]


@pytest.mark.long
@pytest.mark.parametrize(("name", "epochs"), [("classifier", 3), ("saliency", 2)])
def test_losses_are_the_same_with_and_without_cached_features(name: StageName, epochs: int) -> None:
    cached = settings(name, epochs=epochs)
    plain = cached.model_copy(update={"cache_features": False})
    _, fast = train(cached)
    _, slow = train(plain)
    for split in ("train_loss", "validation_loss"):
        assert [e[split] for e in fast] == [e[split] for e in slow]


@pytest.mark.long
def test_a_phase_computes_its_frozen_layers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In training images are passed through DenseNet once, and not with every step, unless they would take too much."""
    chosen, rows = settings("saliency", epochs=2), len(TRAIN) + len(VALIDATION)
    computed, told = 0, list[str]()
    compute = DenseNetNetwork.densenet_features

    def counted(self: DenseNetNetwork, image_B1HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal computed
        computed += len(image_B1HW)
        return compute(self, image_B1HW)

    monkeypatch.setattr(DenseNetNetwork, "densenet_features", counted)
    train(chosen, tell=told.append)
    assert (computed, told) == (rows + 2, []), "one of each split tells the size"
    computed = 0
    with monkeypatch.context() as small:
        small.setattr(steps, "room", lambda _workers: 1000.0)
        train(chosen, tell=told.append)
    assert computed == 2 * rows + len(VALIDATION) + 2
    assert [line.partition(" would")[0] for line in told] == [
        f"Features of {len(split)} images for phase saliency" for split in (TRAIN, VALIDATION)
    ]


def test_only_a_frozen_densenet_s_features_are_kept() -> None:
    whole = TrainSettings.for_preset("tiny", ["contrastive", "encoder", "saliency", "classifier", "joint"])
    assert [name for name in whole.stages if whole.caches(name)] == ["saliency", "classifier"]
    assert not TrainSettings.for_preset("tiny", system="unet-s").caches("saliency")
    augmented = TrainSettings.for_preset("tiny", recipe="recommended")
    assert [name for name in augmented.stages if augmented.caches(name)] == ["classifier"]
    assert augmented.notes() == [
        "Phase saliency does not cache its features: its images are augmented, differently in every epoch."
    ]


def test_phases_run_in_the_paper_s_order_whatever_order_they_are_named_in() -> None:
    assert list(settings("classifier", "contrastive", "saliency").stages) == ["contrastive", "saliency", "classifier"]


RELEASED = {"epochs": 4, "plateau": 1, "optimiser": "adamw", "weight_decay": 0.01, "augment": True, "lr": 0.05}


@pytest.mark.long
def test_a_plateau_slows_the_learning_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Steps, "validate", lambda *_: 1.0)  # what is learned differs from one processor to another
    rates = {**RELEASED, "augment": False, "epochs": 5, "patience": 5}
    steady, slowed = (train(settings("encoder", **{**rates, "plateau": plateau}))[1] for plateau in (None, 1))
    kept = next(n for n in range(5) if plateaus([1.0] * n, 1))
    losses = [[e["train_loss"] for e in history] for history in (steady, slowed)]
    assert losses[0][:kept] == losses[1][:kept]
    assert losses[0][kept] != losses[1][kept]


@pytest.mark.long
def test_phases_that_two_systems_share_need_to_be_trained_once() -> None:
    whole = settings("contrastive", "encoder", "saliency", "classifier", epochs=2, batch=6)
    start = build(PRESETS["tiny"], seed=3)
    shared = build(architecture("dnet201-cl", "tiny"))
    hand_over(shared, {name: t for name, t in snapshot(start).items() if name.startswith("densenet.")})
    first = TrainSettings.for_preset(
        "tiny",
        system="dnet201-cl",
        stages={name: whole.stages[name].model_dump() for name in ("contrastive", "encoder")},
    )
    train(first, shared)
    second = build(PRESETS["tiny"], seed=3)
    hand_over(second, snapshot(start) | snapshot(shared))
    train(settings("saliency", "classifier", epochs=2, batch=6), second)
    assert not changed(snapshot(train(whole, start)[0]), snapshot(second))


def test_the_hand_over_refuses_a_state_that_does_not_fit() -> None:
    network = build(PRESETS["tiny"], seed=0)
    state = snapshot(network)
    name = next(iter(state))
    with pytest.raises(BundleError, match="1 tensors"):
        hand_over(network, {key: value for key, value in state.items() if key != name})
    with pytest.raises(BundleError, match="1 tensors"):
        hand_over(network, state | {"left.over": torch.zeros(1)})
    with pytest.raises(BundleError, match=f"does not fit: 1 tensors differ, first {name}"):
        hand_over(network, state | {name: torch.zeros(1)})


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_batches_are_the_same_rows_however_many_ranks_share_them(workers: int) -> None:
    size, batch, rows = PRESETS["tiny"].input_size, 4, make_rows(9)
    ranks = [list(feed_of(rows, World(rank, workers), seed=4).shuffled(0, batch, size)) for rank in range(workers)]
    alone = list(feed_of(rows, seed=4).shuffled(0, batch, size))
    assert [len(one.label_B) for one in alone] == [4, 4, 1]
    for step, whole in enumerate(alone):
        parts = [dealt[step] for dealt in ranks]
        assert len({len(part.label_B) for part in parts}) == 1, "collective operations need equal shapes"
        images = torch.empty_like(whole.image_BCHW)
        for rank, part in enumerate(parts):
            images[rank::workers] = part.image_BCHW[: part.weight]
        assert torch.equal(images, whole.image_BCHW), "every row once, in the same order"
        assert sum(part.share for part in parts) == pytest.approx(workers)
        assert [part.share for part in parts] == [part.weight * workers / len(whole.label_B) for part in parts]
    validated = [[one.weight for one in feed_of(rows, World(rank, 2)).in_order(5, size)] for rank in range(2)]
    assert validated == [[3, 2], [2, 2]]


def test_an_epoch_begins_at_any_step_and_reads_nothing_of_those_before() -> None:
    read: list[int] = []

    class Counted(HeldRows):
        def read(self, place: int, *, gaze: bool) -> Pixels:
            read.append(place)
            return super().read(place, gaze=gaze)

    size, rows = PRESETS["tiny"].input_size, Counted(make_rows(9))
    whole = list(Feed(rows).shuffled(1, 2, size, augment=True))
    read.clear()
    rest = list(Feed(rows).shuffled(1, 2, size, augment=True, start=3))
    assert len(read) == 3
    assert [torch.equal(one.image_BCHW, two.image_BCHW) for one, two in zip(whole[3:], rest, strict=True)] == [True] * 2
    assert Feed(rows).steps(2) == len(whole)


def test_a_gaze_map_of_zeros_is_none_to_learn_from() -> None:
    rows = make_rows(3)
    rows[1] = replace(rows[1], gaze=bytes(len(rows[1].gaze or b"")))
    assert len(feed_of(rows).select(RECIPES["gazenet"].stages["saliency"])) == 2


def test_epochs_are_shuffled_and_the_same_every_time() -> None:
    size = PRESETS["tiny"].input_size

    def order(epoch: int) -> list[int]:
        return [int(label) for batch in feed_of(TRAIN).shuffled(epoch, 3, size) for label in batch.label_B]

    assert order(0) == order(0)
    assert order(0) != order(1)


def test_rows_without_label_or_gaze_take_part_where_they_can() -> None:
    mixed = feed_of([*make_rows(3), *[replace(row, image_id=f"b{row.image_id}") for row in make_rows(3, labels=False)]])
    assert {name: len(mixed.select(stage)) for name, stage in RECIPES["gazenet"].stages.items()} == {
        "contrastive": 3,
        "encoder": 3,
        "saliency": 6,
        "classifier": 3,
        "joint": 3,
    }
    size = PRESETS["tiny"].input_size
    for name, stage in RECIPES["gazenet"].stages.items():
        labels = [int(label) for batch in mixed.select(stage).shuffled(0, 6, size) for label in batch.label_B]
        assert (-1 in labels) == (name == "saliency")
    assert not len(feed_of(make_rows(3, gaze=False)).select(RECIPES["gazenet"].stages["saliency"]))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"gaze": None}, "No image of the validation split has gaze, which phase saliency learns from"),
        ({"label": 1}, "All images of the train split that phase encoder would learn from are of class"),
        ({"label": None}, "No image of the train split has a label, which phase encoder learns from"),
    ],
)
def test_rows_that_a_later_phase_can_t_use_are_told_before_the_first_step(fault: dict[str, Any], said: str) -> None:
    faulty, began = [replace(row, image_id=f"f-{row.image_id}", **fault) for row in make_rows(3)], list[object]()
    dealt = (feed_of(TRAIN), feed_of(faulty)) if "gaze" in fault else (feed_of(faulty), feed_of(VALIDATION))
    with pytest.raises(UserError, match=said):
        run_loop(build(PRESETS["tiny"]), *dealt, settings("encoder", "saliency"), LoopHooks(on_step=began.append))
    assert not began


def test_a_training_s_name_changes_with_what_determines_its_weights() -> None:
    base = settings("encoder")
    names = {
        base.run_name("store", None),
        base.run_name("other", None),
        base.run_name("store", "parent"),
        base.run_name("store", None, "weights"),
        base.run_name("store", None, "other weights"),
        settings("encoder", lr=0.5).run_name("store", None),
    }
    assert len(names) == 6
    assert base.run_name("store", None) in names


def test_another_file_of_weights_is_another_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command over a file with other bytes must not go on with the training from the first."""
    seen: list[str] = []

    def stop(self: TrainSettings, *parts: Any) -> str:
        seen.append(original(self, *parts))
        raise Stopped

    original = TrainSettings.run_name
    monkeypatch.setattr(TrainSettings, "run_name", stop)
    weights = tmp_path / "weights.safetensors"
    info = StoreInfo(
        profile=DEFAULT_PROFILE,
        profile_sha256=profile_sha256(DEFAULT_PROFILE),
        manifest_sha256="",
        split=SplitSettings(),
        shards=[],
        counts={"split_train": 1},
    )
    store = ShardStore(LocalStore(str(tmp_path)), info)
    for content in (b"one", b"two", b"one"):
        weights.write_bytes(content)
        with pytest.raises(Stopped):
            run_stages(store, settings("encoder"), Registry(LocalStore(str(tmp_path))), backbone_weights=str(weights))
    assert seen[0] == seen[2] != seen[1]


def test_wrong_names_are_told() -> None:
    with pytest.raises(ConfigError, match="There is no phase warmup"):
        TrainSettings.for_preset("tiny", ["warmup"])
    with pytest.raises(ConfigError, match="speed"):
        TrainSettings.for_preset("tiny", stages={"encoder": {"speed": 1}})
