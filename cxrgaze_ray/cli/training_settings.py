"""Training settings from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.storage import read_settings

if TYPE_CHECKING:
    from cxrgaze_ray.models.settings import Preset
    from cxrgaze_ray.training.recipes import RecipeName, StageName
    from cxrgaze_ray.training.settings import TrainSettings


class Chosen(NamedTuple):
    """What of a training's settings was chosen: `TrainOrder` has the same fields."""

    preset: Preset
    phases: tuple[StageName, ...] | None
    settings: dict[str, Any]

    def training(self) -> TrainSettings:
        """Return the settings in full; ConfigError if a name or value is wrong."""
        from cxrgaze_ray.training.settings import TrainSettings

        return TrainSettings.for_preset(self.preset, self.phases, **self.settings)


def read_training(
    preset: Preset,
    config: str | None,
    phases: str | None,
    system: str | None = None,
    single: Sequence[str] = (),
    recipe: RecipeName | None = None,
) -> Chosen:
    """Override a preset's settings with YAML, and those with single ones; ConfigError if a name or value is wrong.

    Parameters
    ----------
    phases
        Names of phases with commas between.
    system
        Name of the network; None leaves it to the YAML.
    single
        Texts such as ``architecture.tap=transition3``; not of a phase that is left out, which the YAML may well name.
    recipe
        Name of the recipe; None leaves it to the YAML.
    """
    from cxrgaze_ray.training.settings import TrainSettings

    values: dict[str, Any] = {}
    if config is not None:
        values = read_settings(TrainSettings, config).model_dump(exclude_unset=True)
    if system is not None:
        values["system"] = system
    if recipe is not None:
        values["recipe"] = recipe
    read_single(single, values)
    named = tuple(phase.strip() for phase in phases.split(",")) if phases else None
    chosen = Chosen(values.pop("preset", preset), cast("tuple[StageName, ...] | None", named), values)
    trained = chosen.training().stages  # names what is wrong as it was written
    asked = read_single(single).get("stages", {})
    if without := [phase for phase in asked if phase not in trained]:
        raise ConfigError(
            f"Settings of phase {without[0]} were given, which is not trained.",
            f"Leave out --set stages.{without[0]}, or train it too: --phases {','.join([*trained, without[0]])}.",
        )
    return chosen


def read_single(texts: Sequence[str], values: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return nested values with single settings put in; ConfigError if a text is none."""
    values = {} if values is None else values
    for text in texts:
        _put(values, text)
    return values


def _put(values: dict[str, Any], text: str) -> None:
    """Put one setting into nested values."""
    import yaml

    path, separator, written = text.partition("=")
    if not (separator and path):
        raise ConfigError(f"{text} is not a setting.", "Write --set NAME=VALUE, such as --set triplet=batch_hard.")
    try:
        value = yaml.safe_load(written)
    except yaml.YAMLError as error:
        raise ConfigError(f"The value of {path} is not YAML.", "Write lists as [640, 512].") from error
    *places, name = path.split(".")
    for place in places:
        inner = values.setdefault(place, {})
        if not isinstance(inner, dict):
            raise ConfigError(
                f"{place} has no settings of its own.", "See cxrgaze train STORE --dry-run --json for all there are."
            )
        values = inner
    values[name] = value
