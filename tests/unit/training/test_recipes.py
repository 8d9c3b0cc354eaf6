"""Recipes: what each system is trained in, the settings of its phases, and the switches of the released code."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cxrgaze_ray.cli.training_settings import read_training
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.models.settings import HEAD_PHASE, SYSTEMS, WITH_DENSENET, Preset
from cxrgaze_ray.training.recipes import RECIPES, STAGE_ORDER, phase_values
from cxrgaze_ray.training.settings import StageSettings, TrainSettings
from cxrgaze_ray.training.steps import plateaus


def test_every_system_has_a_recipe_in_the_order_of_phases() -> None:
    assert tuple(RECIPES) == SYSTEMS
    for recipe in RECIPES.values():
        assert list(recipe.stages) == [name for name in STAGE_ORDER if name in recipe.stages]
        assert set(recipe.phases) <= set(recipe.stages)


def test_densenet_s_own_head_learns_in_one_phase() -> None:
    stages = [stage for system in WITH_DENSENET for stage in RECIPES[system].stages.values()]  # type: ignore[index]
    assert {stage.name for stage in stages if {"densenet", "whole"} & set(stage.trains)} == {HEAD_PHASE}


@pytest.mark.parametrize("preset", get_args(Preset))
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_recipe_s_values_are_settings_of_a_phase(system: str, preset: Preset) -> None:
    for name in RECIPES[system].stages:  # type: ignore[index]
        StageSettings.build(**phase_values(system, preset, name))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("system", "phase", "wanted"),
    [
        ("gazenet", "contrastive", {"batch": 32, "lr": 1e-4, "epochs": 50, "patience": 10, "optimiser": "adam"}),
        ("gazenet", "saliency", {"batch": 16, "lr": 1e-4, "weight_decay": 0.0, "plateau": None, "augment": False}),
        ("mt-unet", "joint", {"batch": 8, "lr": 1e-4, "epochs": 50}),
        (
            "gazegnn",
            "diagnosis",
            {"batch": 32, "lr": 1e-4, "epochs": 100, "optimiser": "adamw", "weight_decay": 0.01, "augment": True},
        ),
        ("inception-resnet-v2", "diagnosis", {"batch": 16, "lr": 1e-4, "epochs": 50, "optimiser": "adam"}),
    ],
)
def test_full_presets_are_the_papers(system: str, phase: str, wanted: dict[str, object]) -> None:
    settings = StageSettings.build(**phase_values(system, "full", phase))  # type: ignore[arg-type]
    assert settings.model_dump(include=set(wanted)) == wanted


def test_only_the_asked_phases_of_the_system_are_filled_in() -> None:
    assert list(TrainSettings.for_preset("tiny", system="dnet201-cl").stages) == ["contrastive", "encoder"]
    assert list(TrainSettings.for_preset("tiny", system="dnet201").stages) == ["encoder"]
    joint = TrainSettings.for_preset("tiny", ["joint", "encoder"])
    assert list(joint.stages) == ["encoder", "joint"]
    assert joint.network.joint  # type: ignore[attr-defined]
    assert not TrainSettings.for_preset("tiny").network.joint  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"system": "resnet"}, "There is no system resnet. The systems are gazenet, "),
        ({"system": ["gazenet"]}, "There is no system"),
        ({"architecture": {"tap": "transition2"}}, "architecture.tap: this is not allowed. It must be one of"),
        ({"architecture": {"colour": 1}}, "architecture.colour: there is no such key"),
        ({"architecture": {"widths": [8, 16, 0, 32, 48]}}, "Setting architecture.widths.2: this is not allowed (0)"),
        ({"architecture": {"system": "dnet201"}}, "it has its place outside architecture"),
        ({"architecture": {"input_size": [640, 500]}}, "640x500 is not a multiple of 32 each way"),
        ({"architecture": 3}, "architecture: this is not allowed"),
        (
            {"phases": ["joint"], "architecture": {"joint": False}},
            "architecture.joint is false, but phase joint learns its weight: leave out one of the two.",
        ),
        ({"system": "dnet201", "stages": {"saliency": {"epochs": 1}}}, "dnet201 has no phase saliency"),
    ],
)
def test_a_wrong_network_is_told_by_what_is_wrong(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrainSettings.for_preset("tiny", **values)
    assert message in str(error.value)


def test_single_settings_of_the_command_line_go_over_the_rest() -> None:
    settings = read_training(
        "tiny",
        None,
        None,
        None,
        ["architecture.tap=transition3", "triplet=rowwise_sum", "stages.encoder.lr=1e-5", "stages.encoder.plateau=40",
         "legacy_batchnorm_drift=true", "architecture.input_size=[320, 256]"],
    )  # fmt: skip
    assert (settings.triplet, settings.legacy_batchnorm_drift) == ("rowwise_sum", True)
    network = settings.network.model_dump(include={"tap", "input_size"})
    assert network == {"tap": "transition3", "input_size": (320, 256)}
    assert (settings.stages["encoder"].lr, settings.stages["encoder"].plateau) == (1e-5, 40)
    assert settings.stages["encoder"].epochs == TrainSettings.for_preset("tiny").stages["encoder"].epochs


@pytest.mark.parametrize("text", ["triplet", "=3", "seed.x=3", "seed=[", "seed=x"])
def test_a_single_setting_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read_training("tiny", None, None, None, ["seed=1", text])


@pytest.mark.parametrize("patience", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_a_plateau_is_torch_s(patience: int, seed: int) -> None:
    losses = torch.rand(60, generator=torch.Generator().manual_seed(seed)).tolist()
    optimiser = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = ReduceLROnPlateau(optimiser, factor=0.1, patience=patience, eps=0.0)
    optimiser.step()
    for count, loss in enumerate(losses, 1):
        scheduler.step(loss)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(0.1 ** plateaus(losses[:count], patience), rel=1e-9)
