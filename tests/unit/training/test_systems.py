"""Every system is trained by its own recipe: what should learn does, and the result is a bundle like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.models.bundle import make_bundle, read_bundle, write_bundle
from cxrgaze_ray.models.network import Network
from cxrgaze_ray.models.settings import System
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.training.checkpoint import Checkpoint, hand_over, read_checkpoint, snapshot, write_checkpoint
from cxrgaze_ray.training.loop import LoopHooks, run_loop
from cxrgaze_ray.training.recipes import RECIPES, StageName
from cxrgaze_ray.training.settings import TrainSettings
from cxrgaze_ray.training.stages import StageModule
from tests.rows import feed_of, make_rows

TRAIN, VALIDATION = make_rows(6), make_rows(6, seed=1)

WHOLE = {
    "mt-unet": {"joint": {"unet", "classifier", "joint_loss"}},
    "gazegnn": {"diagnosis": {"stem", "position_CHW", "gaze_norm", "stages", "head"}},
    "inception-resnet-v2": {"diagnosis": {"inception"}},
    "unet-s": {"saliency": {"unet"}},
    "res-se-unet": {"saliency": {"unet"}},
    "dnet201": {"encoder": {"densenet"}},
    "dnet201-cl": {"contrastive": {"densenet"}, "encoder": {"densenet"}},
}
"""Modules that a phase moves; GazeNet's are tested in test_training."""

NEVER = {
    ("dnet201-cl", "contrastive"): ("densenet.features.norm5.", "densenet.classifier."),
    ("gazegnn", "diagnosis"): ("nearness_NM",),
}
"""What stays to the byte nevertheless."""


class Stopped(Exception):
    """Stands for a kill."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Make sums come in one order."""
    torch.set_num_threads(1)


def settings(system: System, *phases: StageName, **stage: Any) -> TrainSettings:
    """Return the tiny preset's settings of a system's recipe, for one step of six images."""
    values = dict.fromkeys(phases or RECIPES[system].phases, {"epochs": 1, "batch": 6} | stage)
    return TrainSettings.for_preset("tiny", phases or None, system=system, backbone="fresh", stages=values)


def train(chosen: TrainSettings, network: Network, **options: Any) -> list[dict[str, Any]]:
    resume = options.pop("resume", None)
    return run_loop(network, feed_of(TRAIN), feed_of(VALIDATION), chosen, LoopHooks(**options), resume).history


@pytest.mark.parametrize(("system", "name"), [(system, name) for system, phases in WHOLE.items() for name in phases])
def test_a_phase_moves_its_own_parts_and_not_a_byte_of_the_others(
    system: System, name: StageName, tmp_path: Path
) -> None:
    chosen = settings(system, name)
    network = build(chosen.network, seed=3)
    before = snapshot(network)
    (epoch,) = train(chosen, network)
    assert epoch["images"] == 6
    after = snapshot(network)
    moved = {key for key, tensor in after.items() if not torch.equal(tensor, before[key])}
    assert {key.partition(".")[0] for key in moved} == WHOLE[system][name]
    assert not [key for key in moved if any(part in key for part in NEVER.get((system, name), ()))]
    learned = [key for key, p in network.named_parameters() if p.requires_grad]
    assert len(moved & set(learned)) > 0.9 * len(learned), "nearly every parameter has a gradient"

    store = LocalStore(str(tmp_path))
    write_bundle(store, make_bundle(network, "net", trained=True))
    read = read_bundle(store).network().state_dict()
    assert all(torch.equal(tensor, read[key]) for key, tensor in after.items())


@pytest.mark.parametrize(("system", "name"), [(system, name) for system in RECIPES for name in RECIPES[system].stages])
def test_the_release_s_drift_is_said_to_do_nothing_where_it_does_nothing(system: System, name: StageName) -> None:
    chosen = settings(system, name).model_copy(update={"legacy_batchnorm_drift": True})
    network = build(chosen.network, seed=3)
    module = StageModule(network, RECIPES[system].stages[name], chosen)
    learning = {id(one) for part in module.learning() for one in part.modules()}
    before = snapshot(network)
    train(chosen, network)
    frozen = {
        f"{key}.num_batches_tracked"
        for key, part in network.named_modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and id(part) not in learning
    }
    drifted = [key for key in frozen if not torch.equal(network.state_dict()[key], before[key])]
    assert any("legacy_batchnorm_drift has no effect" in note for note in chosen.notes()) is (not drifted)
    assert bool(RECIPES[system].stages[name].freezes) is bool(drifted)


@pytest.mark.parametrize(
    ("system", "stage"), [("mt-unet", {}), ("gazegnn", {"augment": True, "optimiser": "adamw", "weight_decay": 0.01})]
)
def test_a_killed_training_goes_on_to_the_same_end(system: System, stage: dict[str, Any], tmp_path: Path) -> None:
    """The joint loss's own weight comes back with the network's, augmentation's random numbers with the optimiser."""
    chosen = settings(system, epochs=2, batch=3, **stage)
    straight = build(chosen.network, seed=3)
    expected = train(chosen, straight)

    def stop(_metrics: dict[str, Any], make: Callable[[], Checkpoint], _ends: bool) -> None:
        write_checkpoint(tmp_path / "kept", make())
        raise Stopped

    with pytest.raises(Stopped):
        train(chosen, build(chosen.network, seed=3), report=stop)
    checkpoint = read_checkpoint(tmp_path / "kept")
    resumed = build(chosen.network, seed=99)
    hand_over(resumed, checkpoint.best)
    history = train(chosen, resumed, resume=checkpoint)
    assert [epoch["validation_loss"] for epoch in history] == [epoch["validation_loss"] for epoch in expected]
    assert all(torch.equal(t, snapshot(straight)[name]) for name, t in snapshot(resumed).items())


@pytest.mark.parametrize("system", ["gazegnn", "mt-unet", "unet-s", "res-se-unet"])
def test_a_store_without_gaze_says_what_is_missing(system: System) -> None:
    chosen = settings(system)
    with pytest.raises(UserError, match=r"No image of the train split has .*gaze, which phase \w+ learns from"):
        run_loop(build(chosen.network), feed_of(make_rows(3, gaze=False)), feed_of(VALIDATION), chosen, LoopHooks())


def test_an_epoch_that_ends_with_one_image_is_trained_through() -> None:
    """GazeGNN's head normalises one vector an image, which a batch of one can't be normalised by."""
    chosen = settings("gazegnn", batch=5)
    (epoch,) = train(chosen, build(chosen.network, seed=3))
    assert epoch["train_loss"] > 0
