"""How each system is trained: its phases as data, in order, with the paper's settings and those of small networks.

Qiu et al. (Med Phys 2025) for the paper's own network and the comparisons that share its settings; Zhu et al. (2022)
for MT-UNet, Wang et al. (2023) for GazeGNN.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from cxrgaze_ray.models.settings import NetworkConfig, Preset, System

StageName = Literal["contrastive", "encoder", "saliency", "classifier", "joint", "diagnosis"]
STAGE_ORDER: tuple[StageName, ...] = get_args(StageName)
"""All phases. A phase's place here seeds its random draws: one that two systems share is the same in both."""

RecipeName = Literal["paper", "recommended"]
"""paper: as the authors trained. recommended: the same phases, whose images are changed a little each time, and never
mirrored, whatever the authors did."""

Objective = Literal["triplet", "densenet_classes", "saliency", "fused_classes", "joint", "classes"]
"""What a phase's loss is computed from: see `stages`."""


@dataclass(frozen=True)
class Stage:
    """One phase: its name, the parts that learn, its loss, and the data that a row needs to take part.

    Attributes
    ----------
    freezes
        Parts that its loss is computed through although they do not learn.
    """

    name: StageName
    trains: tuple[str, ...]
    objective: Objective
    needs_label: bool = True
    needs_gaze: bool = False
    freezes: tuple[str, ...] = ()

    @property
    def caches(self) -> bool:
        """Return whether what its frozen parts make of an image can be computed once: see `StageModule.frozen`."""
        return bool(self.freezes) and self.objective in ("saliency", "fused_classes")

    def image_size(self, config: NetworkConfig) -> tuple[int, int]:
        """Return height and width of this stage's input."""
        size: tuple[int, int] = getattr(config, "contrastive_size" if self.name == "contrastive" else "input_size")
        return size


@dataclass(frozen=True)
class Recipe:
    """A system's phases.

    Attributes
    ----------
    stages
        Every phase that the system can be trained in, in order.
    phases
        Those that are trained unless others are asked for.
    values
        Settings of phases by preset, over `_COMMON`.
    """

    stages: dict[StageName, Stage]
    phases: tuple[StageName, ...]
    values: dict[Preset, dict[StageName, dict[str, Any]]] = field(default_factory=dict)


def _recipe(
    *stages: Stage, extra: tuple[Stage, ...] = (), values: dict[Preset, dict[StageName, dict[str, Any]]] | None = None
) -> Recipe:
    every = {stage.name: stage for stage in (*stages, *extra)}
    return Recipe(every, tuple(stage.name for stage in stages), values or {})


_CONTRASTIVE = Stage("contrastive", ("densenet_contrastive",), "triplet")
_ENCODER = Stage("encoder", ("densenet",), "densenet_classes")
_SALIENCY = Stage("saliency", ("saliency_path",), "saliency", needs_label=False, needs_gaze=True)
_CLASSIFIER = Stage("classifier", ("classifier",), "fused_classes", freezes=("densenet", "saliency_path"))
_JOINT = Stage("joint", ("saliency_path", "classifier", "joint_loss"), "joint", needs_gaze=True)

_GAZEGNN: dict[str, Any] = {"optimiser": "adamw", "weight_decay": 0.01, "augment": True}
_GAZEGNN_SIZES: dict[Preset, dict[str, Any]] = {
    "full": {"batch": 32, "epochs": 100},
    "small": {"batch": 32, "epochs": 60},
    "tiny": {"batch": 8, "epochs": 14},
}

RECIPES: dict[System, Recipe] = {
    "gazenet": _recipe(
        _CONTRASTIVE,
        _ENCODER,
        replace(_SALIENCY, freezes=("densenet",)),
        _CLASSIFIER,
        extra=(replace(_JOINT, freezes=("densenet",)),),
    ),
    "mt-unet": _recipe(_JOINT, values={"full": {"joint": {"batch": 8}}, "small": {"joint": {"batch": 8}}}),
    "gazegnn": _recipe(
        Stage("diagnosis", ("whole",), "classes", needs_gaze=True),
        values={preset: {"diagnosis": _GAZEGNN | sizes} for preset, sizes in _GAZEGNN_SIZES.items()},
    ),
    "inception-resnet-v2": _recipe(Stage("diagnosis", ("whole",), "classes")),
    "unet-s": _recipe(_SALIENCY),
    "res-se-unet": _recipe(_SALIENCY),
    "dnet201": _recipe(_ENCODER),
    "dnet201-cl": _recipe(_CONTRASTIVE, _ENCODER),
}
"""Recipe of each system: the paper's phases 1a, 1b, 2 and 3 are contrastive, encoder, saliency and classifier."""

_SMALL: dict[str, Any] = {"lr": 5e-4, "epochs": 30}
_COMMON: dict[Preset, dict[StageName, dict[str, Any]]] = {
    "full": {"contrastive": {"batch": 32}},
    "small": {name: {**_SMALL, **({"batch": 32} if name == "contrastive" else {})} for name in STAGE_ORDER},
    "tiny": {
        "contrastive": {"batch": 32, "lr": 5e-4, "epochs": 6, "patience": 3},
        "encoder": {"batch": 8, "lr": 2e-4, "epochs": 14, "patience": 6},
        "saliency": {"batch": 8, "lr": 2e-3, "epochs": 10, "patience": 4},
        "classifier": {"batch": 16, "lr": 2e-3, "epochs": 40, "patience": 10},
        "joint": {"batch": 8, "lr": 2e-3, "epochs": 14, "patience": 6},
        "diagnosis": {"batch": 8, "lr": 2e-4, "epochs": 14, "patience": 6},
    },
}
"""Settings of phases that are the same whatever the system."""


_AUGMENTED: tuple[StageName, ...] = ("contrastive", "encoder", "saliency", "joint", "diagnosis")
"""Phases whose images the recommended recipe changes: those in which layers that see the image learn. The classifier's
fused features would have to be computed anew in every epoch, for a head of two layers."""


def phase_values(system: System, preset: Preset, phase: StageName, recipe: RecipeName = "paper") -> dict[str, Any]:
    """Return the settings of a system's phase in a preset that differ from a phase's defaults."""
    recommended: dict[str, Any] = {"augment": {}} if recipe == "recommended" and phase in _AUGMENTED else {}
    return _COMMON[preset].get(phase, {}) | RECIPES[system].values.get(preset, {}).get(phase, {}) | recommended
