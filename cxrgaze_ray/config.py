"""Frozen settings: defaults live in code, YAML only overrides, unknown keys are errors."""

from __future__ import annotations

from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cxrgaze_ray.errors import ConfigError


class Settings(BaseModel):
    """Base of every settings class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def from_yaml(cls, text: str, **overrides: Any) -> Self:
        """Build the settings from YAML over the defaults.

        Parameters
        ----------
        text
            A YAML mapping, or empty.
        overrides
            Values that win over the file; None means "not given".

        Raises
        ------
        ConfigError
            If the text is no YAML mapping, or a key or value is wrong; the message names the key.
        """
        try:
            values = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f", line {mark.line + 1}" if mark else ""
            raise ConfigError(
                f"The settings are not YAML{place}: {getattr(error, 'problem', None) or 'syntax'}."
            ) from error
        if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
            raise ConfigError("The settings are not a YAML mapping of names to values.")
        return cls._validated(values | {name: value for name, value in overrides.items() if value is not None})

    @classmethod
    def build(cls, **values: Any) -> Self:
        """Validate keyword values, with a ConfigError that names the first wrong key."""
        return cls._validated(values)

    @classmethod
    def _validated(cls, values: dict[str, Any]) -> Self:
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or cls.__name__
            raise ConfigError(
                f"Setting {where}: {first['msg']}.", "See the defaults in the code's settings class."
            ) from error
