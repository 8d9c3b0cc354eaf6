"""Training settings from what the command line was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.storage import open_parent

if TYPE_CHECKING:
    from cxrgaze_ray.training.settings import Preset, TrainSettings


def read_settings(preset: str, config: str | None, phases: str | None) -> TrainSettings:
    """Put YAML over a preset's settings; ConfigError if a name or value is wrong."""
    from cxrgaze_ray.models.gazenet import PRESETS
    from cxrgaze_ray.training.settings import TrainSettings

    if preset not in PRESETS:
        raise ConfigError(f"There is no preset {preset}.", f"Presets are {', '.join(PRESETS)}.")
    values: dict[str, Any] = {}
    if config is not None:
        store, key = open_parent(config)
        values = TrainSettings.from_yaml(store.read_text(key)).model_dump(exclude_unset=True)
    chosen = [phase.strip() for phase in phases.split(",")] if phases else None
    return TrainSettings.for_preset(cast("Preset", values.pop("preset", preset)), chosen, **values)
