"""Which trainings the tables need, in which order, and what a store lacks for some of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from cxrgaze_ray.config import Settings
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.models.settings import CONFIGS, SYSTEMS, Preset, System
from cxrgaze_ray.shards import StoreInfo
from cxrgaze_ray.training.recipes import RECIPES
from cxrgaze_ray.training.settings import TrainSettings

_ORDER: tuple[System, ...] = (
    "dnet201-cl", "dnet201", "gazenet", "mt-unet", "res-se-unet", "unet-s", "inception-resnet-v2", "gazegnn",
)  # fmt: skip

_GOES_ON_FROM: dict[System, System] = {"gazenet": "dnet201-cl"}
"""System whose training is the beginning of another's: its DenseNet after phases 1a and 1b is the same."""


class TablesSettings(Settings):
    """What can be chosen about the tables."""

    preset: Preset = "full"
    """Size of all networks."""

    only: tuple[System, ...] = Field((), min_length=0, max_length=len(SYSTEMS))
    """Systems to compare; empty for all. One that another goes on from is trained all the same."""

    seeds: int = Field(1, ge=1, le=100)
    """Trainings of each system, with seeds 0, 1 and so on."""

    epochs: int | None = Field(None, ge=1, le=100_000)
    """Most epochs of any phase; None leaves each recipe's own."""

    training: dict[str, Any] = {}
    """Settings of a training that go over every recipe, such as ``backbone: fresh``."""


@dataclass(frozen=True)
class Job:
    """One training: a system with a seed.

    Attributes
    ----------
    parent
        System whose weights of the same seed it starts from; None for its own first weights.
    shown
        Whether it stands in the tables; others are only gone on from.
    """

    system: System
    seed: int
    settings: TrainSettings
    parent: System | None
    shown: bool

    @property
    def title(self) -> str:
        """Return how progress names the job."""
        return title_of(self.system, self.seed)


def title_of(system: System, seed: int) -> str:
    """Return how progress and results name a system's training with a seed."""
    return system if not seed else f"{system}, seed {seed}"


def plan_jobs(settings: TablesSettings) -> list[Job]:
    """Return every training in an order in which parents come first.

    Raises
    ------
    ConfigError
        If a training's setting has a wrong name or value.
    """
    shown = settings.only or SYSTEMS
    for name in settings.training.get("architecture", {}):
        if not any(name in CONFIGS[system].model_fields for system in shown):
            raise ConfigError(
                f"None of {', '.join(shown)} has a setting architecture.{name}.",
                f"Those of {shown[0]}: {', '.join(CONFIGS[shown[0]].model_fields)}.",
            )
    wanted = {*shown, *(_GOES_ON_FROM[system] for system in shown if system in _GOES_ON_FROM)}
    return [
        _job(system, seed, settings, shown=system in shown)
        for seed in range(settings.seeds)
        for system in _ORDER
        if system in wanted
    ]


def _job(system: System, seed: int, settings: TablesSettings, *, shown: bool) -> Job:
    parent = _GOES_ON_FROM.get(system)
    done = RECIPES[parent].phases if parent else ()
    phases = [name for name in RECIPES[system].phases if name not in done]
    values = {name: value for name, value in settings.training.items() if name != "stages"}
    if "architecture" in values:
        values["architecture"] = _of_system(system, values["architecture"])
    if misplaced := {"seed", "preset", "system", "stages"} & settings.training.keys():
        raise ConfigError(
            f"{min(misplaced)} is not a setting of every training.", "Use --seeds, --preset, --only, --epochs."
        )
    made = TrainSettings.for_preset(settings.preset, phases, system=system, seed=seed, **values)
    if settings.epochs is not None:
        most = settings.epochs
        stages = {
            name: stage.model_copy(update={"epochs": min(most, stage.epochs)}) for name, stage in made.stages.items()
        }
        made = made.model_copy(update={"stages": stages})
    return Job(system, seed, made, parent, shown)


def _of_system(system: System, architecture: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an architecture that a system has: its ablations concern no other's."""
    return {name: value for name, value in architecture.items() if name in CONFIGS[system].model_fields}


def lacking(info: StoreInfo, system: System) -> str:
    """Say what a store lacks for a system to be trained and tested; empty if nothing."""
    stages = [RECIPES[system].stages[name] for name in RECIPES[system].phases]
    labels = sum(count for name, count in info.counts.items() if name.startswith("label_"))
    if any(stage.needs_gaze for stage in stages) and not info.counts.get("images_with_gaze", 0):
        return "needs gaze, of which the store has none"
    if any(stage.needs_label for stage in stages) and not labels:
        return "needs labels, of which the store has none"
    return ""
