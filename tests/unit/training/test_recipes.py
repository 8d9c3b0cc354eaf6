"""Recipes: what each system is trained in, the settings of its phases, and the switches of the released code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from cxrgaze_ray.cli.training_settings import read_training
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.models.parts import _PARTS, _READ, _TRAINED, notes_on_parts
from cxrgaze_ray.models.settings import CLASSIFYING_PHASES, HEAD_PHASE, SYSTEMS, WITH_DENSENET, Preset, System
from cxrgaze_ray.training.phase_settings import Augmentation
from cxrgaze_ray.training.recipes import RECIPES, STAGE_ORDER, RecipeName, phase_values
from cxrgaze_ray.training.settings import StageSettings, TrainSettings

RECIPE_NAMES: tuple[RecipeName, ...] = get_args(RecipeName)


def test_every_system_has_a_recipe_in_the_order_of_phases() -> None:
    assert tuple(RECIPES) == SYSTEMS
    for recipe in RECIPES.values():
        assert list(recipe.stages) == [name for name in STAGE_ORDER if name in recipe.stages]
        assert set(recipe.phases) <= set(recipe.stages)


def test_densenet_s_own_head_learns_in_one_phase() -> None:
    stages = [stage for system in WITH_DENSENET for stage in RECIPES[system].stages.values()]  # type: ignore[index]
    assert {stage.name for stage in stages if {"densenet", "whole"} & set(stage.trains)} == {HEAD_PHASE}


def test_classes_are_taught_in_the_phases_whose_loss_is_of_the_answer() -> None:
    for system, recipe in RECIPES.items():
        answered = {"fused_classes", "joint", "classes"} if not system.startswith("dnet") else {"densenet_classes"}
        taught = tuple(name for name, stage in recipe.stages.items() if stage.objective in answered)
        assert taught == CLASSIFYING_PHASES.get(system, ())


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
    ).training()  # fmt: skip
    assert (settings.triplet, settings.legacy_batchnorm_drift) == ("rowwise_sum", True)
    network = settings.network.model_dump(include={"tap", "input_size"})
    assert network == {"tap": "transition3", "input_size": (320, 256)}
    assert (settings.stages["encoder"].lr, settings.stages["encoder"].plateau) == (1e-5, 40)
    assert settings.stages["encoder"].epochs == TrainSettings.for_preset("tiny").stages["encoder"].epochs


@pytest.mark.parametrize("text", ["triplet", "=3", "seed.x=3", "seed=[", "seed=x"])
def test_a_single_setting_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read_training("tiny", None, None, None, ["seed=1", text])


def test_a_single_setting_of_a_phase_that_is_left_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Settings of phase saliency were given, which is not trained"):
        read_training("tiny", None, "encoder", None, ["stages.encoder.lr=1e-5", "stages.saliency.epochs=3"])
    shared = tmp_path / "shared.yaml"
    shared.write_text("stages: {saliency: {epochs: 3}}")
    chosen = read_training("tiny", str(shared), "encoder", None, ["stages.encoder.lr=1e-5"])
    assert list(chosen.training().stages) == ["encoder"], "a file may serve several trainings"


FULL = ("contrastive", "encoder", "saliency", "classifier")


@pytest.mark.parametrize(
    ("phases", "before", "told"),
    [
        (FULL, (), []),
        (FULL[1:], (), []),
        (("encoder", "joint"), (), []),
        (FULL[2:], FULL[:2], []),
        (FULL, FULL, []),
        (("classifier",), FULL, []),
        (("classifier",), None, []),
        (
            ("classifier",),
            (),
            [
                "DenseNet learns in no phase: it keeps its first weights, and the classifier learned from those.",
                "DenseNet's own head learns in no phase: it keeps its first weights.",
                "The gaze path learns in no phase: it keeps its first weights, and the classifier learned from those.",
            ],
        ),
        *[
            (
                ("contrastive",),
                before,
                [
                    "Phase contrastive changes DenseNet after DenseNet's own head, the gaze path and the classifier "
                    "learned from it, and those parts do not learn again."
                ],
            )
            for before in (FULL, None)
        ],
        (
            ("saliency",),
            FULL,
            [
                "Phase saliency changes the gaze path after the classifier learned from it, and that part does not "
                "learn again."
            ],
        ),
    ],
)
def test_parts_that_phases_leave_fresh_or_behind_are_told_of(
    phases: tuple[str, ...], before: tuple[str, ...] | None, told: list[str]
) -> None:
    settings = TrainSettings.for_preset("tiny", phases)
    assert notes_on_parts(settings.system, before, settings.stages) == told


def test_what_is_told_of_parts_fits_the_recipes() -> None:
    for system, recipe in RECIPES.items():
        assert notes_on_parts(system, (), recipe.phases) == []
        for name, stage in recipe.stages.items():
            learned = {part.removesuffix("_contrastive") for part in stage.trains} - {"whole", "joint_loss"}
            assert learned == {*_TRAINED.get(name, ())} - {"head"}
            assert {*stage.freezes} <= {read for part in learned for read in _READ.get(part, ())}
            assert not learned or learned <= {*_PARTS[system]}


def test_a_training_that_asks_for_nothing_new_has_the_name_it_always_had() -> None:
    """A killed training of an earlier version goes on only if its name is found again."""
    asked: list[tuple[Preset, System, str]] = [
        ("full", "gazenet", "train-bbaa57ef1f587dea"),
        ("full", "gazegnn", "train-15e839cc69d8e69a"),
        ("small", "mt-unet", "train-99c6b0cdf3780468"),
        ("tiny", "dnet201-cl", "train-91200c1b224a5cf8"),
    ]
    for preset, system, name in asked:
        assert TrainSettings.for_preset(preset, system=system).run_name("s" * 64, None) == name
    changes: list[dict[str, Any]] = [{"recipe": "recommended"}, {"precision": "float32"}, {"compile": True}]
    changes += [{"stages": {"encoder": change}} for change in ({"warmup": 1}, {"clip": 1}, {"schedule": "cosine"})]
    names = {TrainSettings.for_preset("tiny", **change).run_name("s", None) for change in [{}, *changes]}
    assert len(names) == 7


def test_the_recommended_recipe_augments_where_layers_that_see_the_image_learn() -> None:
    for system in SYSTEMS:
        paper, ours = (TrainSettings.for_preset("full", system=system, recipe=recipe) for recipe in RECIPE_NAMES)
        for name, phase in ours.stages.items():
            changed = {key for key, value in phase if value != getattr(paper.stages[name], key)}
            assert changed == (set() if name == "classifier" else {"augment"}), "a classifier's features are cached"
            assert name == "classifier" or phase.augment == Augmentation(), "GazeGNN's own would mirror the chest"
    assert ours.recipe == "recommended"
    chosen = read_training("tiny", None, "saliency", None, ["stages.saliency.augment.degrees=2"], "recommended")
    assert chosen.training().stages["saliency"].augment == Augmentation(degrees=2)
