"""A training whose numbers are no longer finite stops at once, says where, and leaves nothing that holds them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cxrgaze_ray.errors import EXIT_USER, TrainingDiverged, UserError
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.state import not_finite
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.training.checkpoint import Checkpoint, hand_over, read_checkpoint, snapshot, write_checkpoint
from cxrgaze_ray.training.feed import Feed
from cxrgaze_ray.training.recipes import StageName
from cxrgaze_ray.training.settings import STAGE_NAMES, TrainSettings
from cxrgaze_ray.training.stages import Batch
from tests.unit.training.test_training import at_rate, settings, train

Deal = Callable[..., Iterator[Batch]]


class Kept:
    """A report hook that keeps every checkpoint, as a folder would."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.epochs = folder, 0

    def __call__(self, metrics: dict[str, Any], make: Callable[[], Checkpoint], _ends: bool) -> None:
        assert math.isfinite(metrics["train_loss"])
        assert math.isfinite(metrics["validation_loss"])
        write_checkpoint(self.folder / "kept", make())
        self.epochs += 1

    def read(self) -> Checkpoint:
        checkpoint = read_checkpoint(self.folder / "kept")
        assert not not_finite(checkpoint.best)
        assert not not_finite(checkpoint.model)
        return checkpoint


def poison(monkeypatch: pytest.MonkeyPatch, deal: str, *, call: int, step: int) -> None:
    """Make the images of one step NaN, the `call`-th time that batches are dealt so."""
    original: Deal = getattr(Feed, deal)
    calls = 0

    def dealt(*args: Any, **values: Any) -> Iterator[Batch]:
        nonlocal calls
        calls += 1
        now = calls
        for number, batch in enumerate(original(*args, **values), 1):
            bad = (now, number) == (call, step)
            yield replace(batch, image_BCHW=batch.image_BCHW * math.nan) if bad else batch

    monkeypatch.setattr(Feed, deal, dealt)


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_a_rate_that_blows_up_stops_at_the_step_where_it_does_and_names_itself(name: StageName, tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    with pytest.raises(TrainingDiverged, match=rf"phase {name}, epoch 1, step 2: the .* not finite") as told:
        train(at_rate(settings(name, batch=6, epochs=5), name, 1e30), report=kept)
    assert f"Lower stages.{name}.lr, which is 1e+30," in told.value.hint
    assert told.value.exit_code == EXIT_USER
    assert kept.epochs == 0


@pytest.mark.parametrize(
    ("deal", "call", "step", "where"),
    [
        ("shuffled", 2, 3, "epoch 2, step 3: the training loss is"),
        ("in_order", 2, 2, "epoch 1, step 2: the validation loss is"),
        ("in_order", 3, 1, "epoch 2, step 1: the validation loss is"),
    ],
)
def test_a_loss_of_nan_is_never_best(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, deal: str, call: int, step: int, where: str
) -> None:
    kept = Kept(tmp_path)
    poison(monkeypatch, deal, call=call, step=step)
    with pytest.raises(TrainingDiverged, match=rf"phase encoder, {where} not finite") as told:
        train(settings("encoder", epochs=4), report=kept)
    assert "stages.encoder.lr" in told.value.hint
    assert kept.epochs == int("epoch 2" in where)


@pytest.mark.parametrize(
    ("deal", "where"),
    [
        ("shuffled", "epoch 1, step 1: the training loss"),
        ("in_order", "before the first epoch, step 1: the validation"),
    ],
)
def test_before_the_first_step_the_learning_rate_is_not_blamed(
    monkeypatch: pytest.MonkeyPatch, deal: str, where: str
) -> None:
    poison(monkeypatch, deal, call=1, step=1)
    with pytest.raises(TrainingDiverged, match=where) as told:
        train(settings("encoder"))
    assert "lr" not in told.value.hint
    assert "start from other weights" in told.value.hint


def test_a_gradient_that_is_not_finite_is_never_stepped_along() -> None:
    network = build(PRESETS["tiny"], seed=3)
    before = snapshot(network)

    def overflow(module: nn.Module) -> nn.Module:
        network.densenet.classifier.weight.register_hook(lambda gradient: gradient * math.inf)
        return module

    with pytest.raises(TrainingDiverged, match="epoch 1, step 1: the gradients are not finite"):
        train(settings("encoder"), network, wrap=overflow)
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())


def test_statistics_that_overflowed_are_found_though_losses_are_finite() -> None:
    network = build(PRESETS["tiny"], seed=3)

    def overflow(metrics: dict[str, Any], _make: Callable[[], Checkpoint], _ends: bool) -> None:
        assert metrics["epoch"] == 1
        network.densenet.features.norm0.running_var.fill_(math.inf)

    with pytest.raises(TrainingDiverged, match="phase encoder, epoch 2: the weights are not finite"):
        train(settings("encoder", epochs=3), network, report=overflow)


def test_going_on_ends_at_the_same_step_again_or_passes_it_if_the_cause_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = Kept(tmp_path)
    with monkeypatch.context() as patched:
        poison(patched, "shuffled", call=2, step=1)
        with pytest.raises(TrainingDiverged):
            train(settings("encoder", epochs=3), report=kept)
    with monkeypatch.context() as patched:
        poison(patched, "shuffled", call=1, step=1)  # the first one after going on
        with pytest.raises(TrainingDiverged, match="epoch 2, step 1"):
            train(settings("encoder", epochs=3), resume=kept.read())
    _, history = train(settings("encoder", epochs=3), resume=kept.read())
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]


def test_a_state_that_is_not_finite_is_told_as_that_and_not_as_lost_tensors() -> None:
    network = build(PRESETS["tiny"], seed=0)
    state = snapshot(network)
    state[next(iter(state))].fill_(math.nan)
    with pytest.raises(TrainingDiverged, match="not finite: 1 tensors, first encoder"):
        hand_over(network, state)


def earlier(tmp_path: Path, *, epochs: int) -> Checkpoint:
    """Return the checkpoint of a training's first epoch."""

    class Stopped(Exception):
        """Stands for a kill."""

    def stop(_metrics: dict[str, Any], make: Callable[[], Checkpoint], _ends: bool) -> None:
        write_checkpoint(tmp_path / "kept", make())
        raise Stopped

    with pytest.raises(Stopped):
        train(settings("encoder", epochs=epochs), report=stop)
    return read_checkpoint(tmp_path / "kept")


def spoilt(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t * math.nan if t.is_floating_point() else t for name, t in state.items()}


def test_going_on_from_an_earlier_version_s_nan_weights_is_refused(tmp_path: Path) -> None:
    checkpoint = earlier(tmp_path, epochs=3)
    with pytest.raises(TrainingDiverged, match="weights that this training has reached"):
        train(settings("encoder", epochs=3), resume=replace(checkpoint, model=spoilt(checkpoint.model)))


def test_an_earlier_version_s_finished_training_keeps_its_finite_best(tmp_path: Path) -> None:
    checkpoint = earlier(tmp_path, epochs=1)
    network, _ = train(settings("encoder"), resume=replace(checkpoint, model=spoilt(checkpoint.model)))
    assert all(torch.equal(tensor, checkpoint.best[name]) for name, tensor in snapshot(network).items())
    with pytest.raises(TrainingDiverged, match="not finite"):
        train(settings("encoder"), resume=replace(checkpoint, best=spoilt(checkpoint.best)))


def test_an_earlier_version_s_best_loss_of_nan_is_bettered(tmp_path: Path) -> None:
    checkpoint = earlier(tmp_path, epochs=2)
    old = replace(checkpoint, standing=replace(checkpoint.standing, best_loss=math.nan))
    _, history = train(settings("encoder", epochs=2), resume=old)
    assert [epoch["best"] for epoch in history] == [True, True]


def test_a_split_without_a_triplet_has_no_loss_to_be_selected_by() -> None:
    """It is found before the first step: the validation's rows come as classes 0, 1, 2."""
    steps = list[object]()
    with pytest.raises(UserError, match="Batches of 3 are too small for the validation split") as told:
        train(settings("contrastive", batch=3), on_step=steps.append)
    assert "stages.contrastive.batch" in told.value.hint
    assert not steps


def in_float16(**stage: Any) -> TrainSettings:
    """Return settings with which a gradient scaler works, as on accelerators without bfloat16."""
    return settings("classifier", **stage).model_copy(update={"precision": "float16"})


@pytest.mark.long
def test_the_gradient_scaler_goes_on_where_it_was(tmp_path: Path) -> None:
    chosen = in_float16(epochs=3)
    scales: list[float] = []

    def keep(metrics: dict[str, Any], make: Callable[[], Checkpoint], _ends: bool) -> None:
        scales.append(make().scaler["scale"])
        if metrics["epoch"] == 1:
            halved = replace(make(), scaler=make().scaler | {"scale": 1024.0, "_growth_tracker": 7})
            write_checkpoint(tmp_path / "kept", halved)

    train(chosen, report=keep)
    assert scales == [65536.0] * 3
    resumed: list[dict[str, Any]] = []
    train(
        chosen,
        resume=read_checkpoint(tmp_path / "kept"),
        report=lambda _metrics, make, _ends: resumed.append(make().scaler),
    )
    steps = 3
    assert [(state["scale"], state["_growth_tracker"]) for state in resumed] == [
        (1024.0, 7 + steps),
        (1024.0, 7 + 2 * steps),
    ]


@pytest.mark.long
@pytest.mark.parametrize("steps", [4, None])
def test_a_scaler_may_leave_out_steps_but_not_all_of_them(steps: int | None) -> None:
    network, left = build(PRESETS["tiny"], seed=3), steps

    def overflow(gradient: torch.Tensor) -> torch.Tensor:
        nonlocal left
        if left is not None:
            left -= 1
        return gradient if left is not None and left < 0 else gradient * math.inf

    def hooked(module: nn.Module) -> nn.Module:
        network.classifier.out.weight.register_hook(overflow)  # type: ignore[no-untyped-call]
        return module

    chosen = in_float16(epochs=8, clip=1.0)
    if steps is None:
        # 65536 is halved 17 times before it is under 1, at 3 steps an epoch
        with pytest.raises(TrainingDiverged, match="epoch 6, step 2: the gradients are not finite"):
            train(chosen, network, wrap=hooked)
        return
    before = snapshot(network)
    _, history = train(chosen, network, wrap=hooked)
    assert len(history) == 8
    assert not torch.equal(network.classifier.out.weight, before["classifier.out.weight"])


def test_a_checkpoint_of_an_earlier_version_is_a_folder_with_one_rng_and_no_scaler(tmp_path: Path) -> None:
    checkpoint = earlier(tmp_path, epochs=2)
    (folder := tmp_path / "earlier").mkdir()
    for name, tensors in (("model", checkpoint.model), ("best", checkpoint.best)):
        save_file(tensors, folder / f"{name}.safetensors")
    save_file(checkpoint.optimiser | {"rng": checkpoint.rng[0]["cpu"]}, folder / "optimiser.safetensors")
    told = {name: value for name, value in vars(checkpoint.standing).items() if name != "within"}
    (folder / "standing.json").write_text(json.dumps(told))
    old = read_checkpoint(folder)
    assert old.scaler == {}
    assert [set(states) for states in old.rng] == [{"cpu"}]
    _, expected = train(settings("encoder", epochs=2), resume=checkpoint)
    _, history = train(settings("encoder", epochs=2), resume=old)
    assert [e["train_loss"] for e in history] == [e["train_loss"] for e in expected]


def test_every_rank_s_rngs_are_kept_an_accelerator_s_beside_the_processor_s(tmp_path: Path) -> None:
    first = {"cpu": torch.get_rng_state(), "cuda": torch.arange(16, dtype=torch.uint8)}
    ranks = [first, {name: state.flip(0) for name, state in first.items()}]
    write_checkpoint(tmp_path / "kept", replace(earlier(tmp_path, epochs=2), rng=ranks))
    found = read_checkpoint(tmp_path / "kept").rng
    assert [{n: s.tolist() for n, s in own.items()} for own in found] == [
        {n: s.tolist() for n, s in own.items()} for own in ranks
    ]
