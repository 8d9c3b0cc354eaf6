"""Frozen settings: defaults live in code, YAML only overrides, unknown keys are errors."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cxrgaze_ray.config.faults import first_fault
from cxrgaze_ray.errors import ConfigError

Text = Annotated[str, Field(min_length=1, max_length=1000)]
Uri = Annotated[str, Field(min_length=1, max_length=4096)]
"""A path or an s3:// location."""

Uris = Annotated[tuple[Uri, ...], Field(min_length=0, max_length=10_000)]
"""Any number of paths or s3:// locations, none included."""

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""Seed of a random number generator."""

MODEL_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
Name = Annotated[str, Field(pattern=MODEL_NAME)]
"""Name of a model in the registry."""

DeviceName = Literal["auto", "cpu", "cuda"]
"""Device on which a network runs; auto takes an accelerator if there is one."""

EngineKind = Literal["auto", "float32", "exact", "fast"]
"""Kind of engine for a network; auto is fast, see `models.engines.engine.engines_for`."""


class Record(BaseModel):
    """Base of records that the code writes and reads back: frozen, and strict about its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(Record):
    """Base of what a person may choose. Every field has bounds: `tests/unit/config/test_bounds.py` walks over all."""

    @classmethod
    def from_yaml(cls, text: str, place: str = "", /, **overrides: Any) -> Self:
        """Build the settings from YAML over the defaults.

        Parameters
        ----------
        text
            A YAML mapping, or empty.
        place
            Where the text came from, for messages.
        overrides
            Values that win over the file; None means "not given".

        Raises
        ------
        ConfigError
            If the text is not a YAML mapping, or a key or value is wrong; it names place, key and what is allowed.
        """
        where = f"{place}: " if place else ""
        try:
            values = yaml.load(text, _Loader)  # noqa: S506  # it is a safe loader
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            cause = getattr(error, "problem", None) or "syntax"
            raise ConfigError(f"{where}This is not YAML{line}: {cause}.", "Write one key: value per line.") from error
        values = {} if values is None else values
        if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
            hint = f"The keys are {', '.join(cls.model_fields)}."
            raise ConfigError(f"{where}The settings are not a YAML mapping of names to values.", hint)
        given = {name: value for name, value in overrides.items() if value is not None}
        return cls.checked(values | given, f"{where}Setting", given=given)

    @classmethod
    def build(cls, /, **values: Any) -> Self:
        """Validate keyword values, with a ConfigError that names the wrong key and what is allowed."""
        return cls.checked(values, "Setting")

    @classmethod
    def checked(
        cls,
        values: dict[str, Any],
        subject: str,
        spell: Callable[[str], str] = str,
        given: Container[str] = (),
    ) -> Self:
        """Validate values.

        Parameters
        ----------
        values
            Values by the name of their field.
        subject
            Start of a message, before the key: the place, and what a setting is called there.
        spell
            Turns a field's name into the key as the person wrote it.
        given
            Fields that were given on the command line rather than in the file.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            fault = first_fault(cls, error, spell)
            if fault.key.partition(".")[0] in given:
                subject = "The command's"
            named = f"{subject} {fault.key}" if fault.key else f"{subject}s"
            raise ConfigError(f"{named}: {fault.what}.", fault.hint) from error


class _Loader(yaml.SafeLoader):
    """Reads plain values only, and refuses a repeated key, of which YAML would take the last.

    ``2:8`` is text: YAML 1.1 would read a number of base 60, 128.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value]
        if twice := next((key for at, key in enumerate(keys) if key.value in [one.value for one in keys[:at]]), None):
            raise yaml.constructor.ConstructorError(None, None, f"{twice.value} occurs twice", twice.start_mark)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """Construct a number, or the text that a colon makes of it."""
        if ":" in node.value:
            return node.value
        whole = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)
