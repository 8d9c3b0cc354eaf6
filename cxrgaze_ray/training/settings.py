"""The settings of a training."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from cxrgaze_ray.config import Seed, Settings
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.models.gazenet import PRESETS, GazeNetConfig
from cxrgaze_ray.models.losses import TripletMining

StageName = Literal["contrastive", "encoder", "saliency", "classifier"]
STAGE_NAMES: tuple[StageName, ...] = ("contrastive", "encoder", "saliency", "classifier")
Preset = Literal["full", "small", "tiny"]


class StageSettings(Settings):
    """Settings of one phase."""

    epochs: int = Field(50, ge=1, le=100_000)
    """Largest number of epochs."""

    batch: int = Field(16, ge=1, le=65_536)
    """Images per step, over all workers."""

    lr: float = Field(1e-4, gt=0, le=10)
    """Adam's learning rate; constant, no weight decay."""

    patience: int = Field(10, ge=1, le=100_000)
    """Epochs without a better validation loss before the phase stops."""


class TrainSettings(Settings):
    """Settings of a whole training."""

    preset: Preset = "full"
    """Size of the network: full is the paper's."""

    seed: Seed = 0
    """Seed of initialisation, shuffling and dropout."""

    stages: dict[StageName, StageSettings] = {}
    """Every phase to run, in the paper's order; `for_preset` fills them in."""

    triplet: TripletMining = "batch_all"
    """Choice of triplets: batch_all over pooled features, batch_hard, or the released code's rowwise_sum."""

    legacy_batchnorm_drift: bool = False
    """Keep frozen parts in train mode, as the released code does: their batch-norm buffers drift."""

    cache_features: bool = True
    """Train the classifier phase from fused features that are computed once; not under legacy_batchnorm_drift, where
    they change with every step."""

    backbone: Literal["imagenet", "fresh"] = "imagenet"
    """First weights of DenseNet if neither a parent nor a file of weights is given: ImageNet's, if they fit and can be
    downloaded, or fresh ones."""

    @property
    def network(self) -> GazeNetConfig:
        """Settings of the network."""
        return PRESETS[self.preset]

    @classmethod
    def for_preset(cls, preset: Preset, phases: list[str] | None = None, **values: Any) -> TrainSettings:
        """Fill in the stages of a preset, or some of its phases; stage values that are given win.

        Raises
        ------
        ConfigError
            If a phase or a setting has a wrong name or value.
        """
        chosen = phases or list(STAGE_NAMES)
        if unknown := set(chosen) - set(STAGE_NAMES):
            raise ConfigError(f"There is no phase {min(unknown)}.", f"The phases are {', '.join(STAGE_NAMES)}.")
        overrides = values.pop("stages", {})
        cls.build(stages=overrides)  # raises an error that names what is wrong with them
        stages = {
            name: {**_DEFAULTS[preset][name], **overrides.get(name, {})} for name in STAGE_NAMES if name in chosen
        }
        return cls.build(preset=preset, stages=stages, **values)

    def notes(self, workers: int) -> list[str]:
        """Return sentences about settings that the training does not follow to the letter."""
        notes = []
        for name, stage in self.stages.items():
            if (step := max(1, stage.batch // workers) * workers) != stage.batch:
                notes.append(f"Phase {name} steps over {step} images, not {stage.batch}: {workers} workers share them.")
        if self.triplet != "batch_all" and "contrastive" not in self.stages:
            notes.append("Setting triplet has no effect: phase contrastive is left out.")
        if self.legacy_batchnorm_drift and not {"saliency", "classifier"} & set(self.stages):
            notes.append("Setting legacy_batchnorm_drift has no effect: no phase computes anything with a frozen part.")
        if self.legacy_batchnorm_drift and self.cache_features and "classifier" in self.stages:
            notes.append("Phase classifier does not cache its features: they drift with the batch-norm buffers.")
        return notes

    def run_name(self, store_sha256: str, parent: str | None, backbone: str | None = None) -> str:
        """Name a training by its store, settings, and hashes of its first weights: the same command finds it again."""
        text = f"{store_sha256}\0{self.model_dump_json()}\0{parent or ''}" + (f"\0{backbone}" if backbone else "")
        return f"train-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _fit_training(values: dict[str, Any]) -> dict[str, Any]:
    if "preset" in values:
        raise ValueError("preset is not among what goes over a preset")
    try:
        TrainSettings.build(**values)
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("Setting ").rstrip(".")) from error
    return values


Overrides = Annotated[dict[str, Any], AfterValidator(_fit_training)]
"""Training settings that override those of a preset."""

_PAPER: dict[str, dict[str, Any]] = {
    "contrastive": {"batch": 32},
    "encoder": {},
    "saliency": {},
    "classifier": {},
}
_SMALL: dict[str, dict[str, Any]] = {name: {**values, "lr": 5e-4, "epochs": 30} for name, values in _PAPER.items()}
_TINY: dict[str, dict[str, Any]] = {
    "contrastive": {"batch": 32, "lr": 5e-4, "epochs": 6, "patience": 3},
    "encoder": {"batch": 8, "lr": 2e-4, "epochs": 14, "patience": 6},
    "saliency": {"batch": 8, "lr": 2e-3, "epochs": 10, "patience": 4},
    "classifier": {"batch": 16, "lr": 2e-3, "epochs": 40, "patience": 10},
}
_DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {"full": _PAPER, "small": _SMALL, "tiny": _TINY}
