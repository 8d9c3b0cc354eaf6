"""Training settings from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cxrgaze_ray.storage import read_settings

if TYPE_CHECKING:
    from cxrgaze_ray.models.settings import Preset
    from cxrgaze_ray.training.settings import TrainSettings


def read_training(preset: Preset, config: str | None, phases: str | None) -> TrainSettings:
    """Override a preset's settings with YAML; ConfigError if a name or value is wrong."""
    from cxrgaze_ray.training.settings import TrainSettings

    values: dict[str, Any] = {}
    if config is not None:
        values = read_settings(TrainSettings, config).model_dump(exclude_unset=True)
    chosen = [phase.strip() for phase in phases.split(",")] if phases else None
    return TrainSettings.for_preset(values.pop("preset", preset), chosen, **values)
