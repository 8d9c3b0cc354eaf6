"""The settings of a training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cxrgaze_ray.config import Seed, Settings
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.models.settings import NetworkConfig, System, TripletMining, architecture
from cxrgaze_ray.models.settings import Preset as Preset  # named by those who choose a training
from cxrgaze_ray.training.phase_settings import StageSettings as StageSettings
from cxrgaze_ray.training.recipes import RECIPES, RecipeName, StageName, phase_values

STAGE_NAMES = RECIPES["gazenet"].phases
"""The paper's four phases."""


class TrainSettings(Settings):
    """Settings of a whole training."""

    system: System = "gazenet"
    """Network to train, by the paper's name."""

    preset: Preset = "full"
    """Size of the network: full is the paper's."""

    recipe: RecipeName = "paper"
    """What `stages` begin from: the paper's settings, or recommended ones, which augment images."""

    architecture: dict[str, Any] = {}
    """Settings of the network that override the preset's, such as ``tap: transition3``."""

    seed: Seed = 0
    """Seed of initialisation, shuffling and dropout."""

    stages: dict[StageName, StageSettings] = {}
    """Every phase to run, in the recipe's order; `for_preset` fills them in."""

    triplet: TripletMining = "batch_all"
    """Choice of triplets: batch_all over pooled features, batch_hard, or the released code's rowwise_sum."""

    legacy_batchnorm_drift: bool = False
    """Keep frozen parts in train mode, as the released code does: their batch-norm buffers drift."""

    sync_batchnorm: bool = True
    """Take the statistics of batch norms that learn over the rows of all workers, as one worker does; without it each
    takes those of its own rows, and the first one's running statistics are kept."""

    cache_features: bool = True
    """Compute what frozen layers make of an image once and keep it on disk: fused features for the classifier phase,
    DenseNet's for the saliency phase. Losses stay the same. Not under legacy_batchnorm_drift or with augmented images,
    where features change with every step."""

    cache_gib: float = Field(16.0, ge=0, le=1e6)
    """Most GiB that a phase's features of a split may take; if they would take more, or more than a quarter of what is
    free in a worker's folder for temporary files, shared by its machine's workers, they are computed in every step.
    DenseNet's take 2.3 MiB an image in float32 at the paper's size."""

    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What layers compute in under torch's autocast: auto is float32 on CPUs, and on a GPU bfloat16, or float16 where
    it lacks that. float32 on a GPU is TF32 in convolutions, torch's own default."""

    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """Layout of images and weights in memory, which moves losses by no more than rounding: auto is channels last on a
    GPU, whose tensor cores read so."""

    compile: bool = False
    """Let torch.compile fuse each phase's layers, if it can; that takes a minute or more at first."""

    backbone: Literal["imagenet", "fresh"] = "imagenet"
    """First weights of the backbone if neither a parent nor a file of weights is given: ImageNet's, if they fit and can
    be downloaded, or fresh ones."""

    @model_validator(mode="after")
    def _fits_the_system(self) -> Self:
        if unknown := [name for name in self.stages if name not in RECIPES[self.system].stages]:
            known = ", ".join(RECIPES[self.system].stages)
            raise ValueError(f"{self.system} has no phase {unknown[0]}: its phases are {known}")
        try:
            network = self.network
        except ConfigError as error:
            raise ValueError(str(error).removeprefix("Setting ").rstrip(".")) from error
        if "joint" in self.stages and not getattr(network, "joint", True):
            raise ValueError("architecture.joint is false, but phase joint learns its weight: leave out one of the two")
        return self

    @property
    def network(self) -> NetworkConfig:
        """Settings of the network."""
        joint = {"joint": True} if self.system == "gazenet" and "joint" in self.stages else {}
        return architecture(self.system, self.preset, joint | self.architecture)

    @classmethod
    def for_preset(cls, preset: Preset, phases: Sequence[str] | None = None, **values: Any) -> TrainSettings:
        """Fill in the phases of a system's recipe, or some of them; stage values that are given win.

        Raises
        ------
        ConfigError
            If a phase or a setting has a wrong name or value.
        """
        overrides = values.pop("stages", {})
        if isinstance(changes := values.get("architecture", {}), dict):
            architecture(values.get("system", "gazenet"), preset, changes)  # raises an error that names the fault
        built = cls.build(preset=preset, stages={}, **values)  # and so does this
        system, recipe = built.system, RECIPES[built.system]
        chosen = phases or list(recipe.phases)
        if unknown := set(chosen) - set(recipe.stages):
            raise ConfigError(
                f"There is no phase {min(unknown)} for {system}.", f"Its phases are {', '.join(recipe.stages)}."
            )
        cls.build(system=system, stages=overrides)
        stages = {
            name: {**phase_values(system, preset, name, built.recipe), **overrides.get(name, {})}
            for name in recipe.stages
            if name in chosen
        }
        return cls.build(preset=preset, stages=stages, **values)

    def notes(self) -> list[str]:
        """Return sentences about settings that the training does not follow to the letter."""
        notes = []
        if self.triplet != "batch_all" and "contrastive" not in self.stages:
            notes.append("Setting triplet has no effect: phase contrastive is left out.")
        recipe = RECIPES[self.system].stages
        if self.legacy_batchnorm_drift and not any(recipe[name].freezes for name in self.stages):
            notes.append("Setting legacy_batchnorm_drift has no effect: no phase computes anything with a frozen part.")
        for name in self.stages if self.cache_features else ():
            if recipe[name].caches and (why := self._uncacheable(name)):
                notes.append(f"Phase {name} does not cache its features: {why}.")
        return notes

    def without(self, phase: StageName) -> str:
        """Return how to train without a phase, as the end of an advice; empty if there is no other phase."""
        rest = ",".join(name for name in self.stages if name != phase)
        return f", or leave the phase out: --phases {rest}" if rest else ""

    def caches(self, phase: StageName) -> bool:
        """Return whether a phase learns from features that are computed once."""
        return self.cache_features and RECIPES[self.system].stages[phase].caches and not self._uncacheable(phase)

    def _uncacheable(self, phase: StageName) -> str:
        """Return why a phase's features differ from epoch to epoch; empty if they do not."""
        if self.legacy_batchnorm_drift:
            return "they drift with the batch-norm buffers"
        return "its images are augmented, differently in every epoch" if self.stages[phase].augment else ""

    def run_name(self, store_sha256: str, parent: str | None, backbone: str | None = None) -> str:
        """Name a training by its store, settings, and hashes of its first weights: the same command finds it again."""
        text = f"{store_sha256}\0{self.identity()}\0{parent or ''}" + (f"\0{backbone}" if backbone else "")
        return f"train-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def identity(self) -> str:
        """Return the settings as JSON, without those of today that say what every earlier version did."""
        later = {name for name in _LATER if name not in self.model_dump(exclude_defaults=True)}
        of_stage: dict[str, set[str]] = {
            stage: {name for name in _LATER_OF_STAGE if name not in settings.model_dump(exclude_defaults=True)}
            for stage, settings in self.stages.items()
        }
        excluded: Any = {"stages": of_stage, "cache_gib": True} | dict.fromkeys(later, True)
        return self.model_dump_json(exclude=excluded)


_LATER = ("system", "architecture", "recipe", "precision", "memory_format", "compile", "sync_batchnorm")
_LATER_OF_STAGE = ("plateau", "optimiser", "weight_decay", "augment", "schedule", "warmup", "betas", "clip")


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
