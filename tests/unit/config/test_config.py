"""Settings: defaults, YAML over them, options over both, and errors that name the key."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field, FilePath, ValidationError, model_validator

from cxrgaze_ray.config import Settings
from cxrgaze_ray.errors import ConfigError


class Inner(Settings):
    rate: float = 0.5


class Example(Settings):
    batch: int = 8
    name: str = "default"
    inner: Inner = Inner()


def test_empty_text_gives_the_defaults() -> None:
    assert Example.from_yaml("") == Example()


def test_an_option_wins_over_the_file_and_none_does_not() -> None:
    settings = Example.from_yaml("batch: 16\nname: file\n", batch=32, name=None)
    assert (settings.batch, settings.name) == (32, "file")


def test_nested_settings_keep_their_other_defaults() -> None:
    assert Example.from_yaml("inner: {rate: 0.25}") == Example(inner=Inner(rate=0.25))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("bathc: 16", "bathc"),
        ("batch: many", "batch"),
        ("inner: {rate: fast}", "inner.rate"),
        ("inner: {rat: 1}", "inner.rat"),
        ("- batch", "mapping"),
        ("just words", "mapping"),
        ("a: [1", "YAML"),
        ("!!python/object/apply:os.getcwd []", "YAML"),
        ("1: x", "mapping"),
        ("cls: x", "cls"),
    ],
)
def test_what_is_wrong_is_named(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Example.from_yaml(text)
    assert named in caught.value.message


def test_a_wrong_option_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="batch"):
        Example.from_yaml("", batch="many")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Example().batch = 9  # type: ignore[misc]


KEYS = "The keys are epochs, share, kind, names, ca, place, stages."


class Choice(Settings):
    epochs: int = Field(5, ge=1, le=9)
    share: float = Field(0.5, gt=0, lt=1)
    kind: Literal["fast", "slow"] = "fast"
    names: tuple[str, ...] = Field((), min_length=1, max_length=2)
    ca: FilePath | None = None
    place: str | Inner = ""
    stages: dict[Literal["one", "two"], Inner] = {}

    @model_validator(mode="after")
    def _not_both(self) -> Choice:
        if self.epochs == 9 and self.kind == "slow":
            raise ValueError("nine slow epochs are too many")
        return self


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs: 0", "Setting epochs: this is not allowed (0). It must be a whole number from 1 to 9; by default 5."),
        (
            "share: 1",
            "Setting share: this is not allowed (1). It must be a number above 0 and below 1; by default 0.5.",
        ),
        ("kind: fats", "Setting kind: this is not allowed. It must be one of fast, slow; by default fast."),
        ("names: []", "Setting names: this is not allowed. It must be a list of 1 to 2 entries, each text."),
        ("ca: /no", "Setting ca: this is not allowed. It must be the path of an existing file or nothing (null)."),
        ("epoch: 1", f"Setting epoch: there is no such key. Did you mean epochs? {KEYS}"),
        ("zzz: 1", f"Setting zzz: there is no such key. {KEYS}"),
        ("place: {rate: x}", "Setting place.rate: this is not allowed. It must be a number; by default 0.5."),
        ("place: {rat: 1}", "Setting place.rat: there is no such key. Did you mean rate? The keys are rate."),
        ("place: 5", "Setting place: this is not allowed (5). It must be text or a mapping with keys among rate."),
        ("stages: {tow: {}}", "Setting stages.tow: there is no such key. Did you mean two? The keys are one, two."),
        (
            "stages: {two: {rate: x}}",
            "Setting stages.two.rate: this is not allowed. It must be a number; by default 0.5.",
        ),
        ("epochs: 9\nkind: slow", f"Settings: nine slow epochs are too many. {KEYS}"),
        (
            "epochs: 3\nkind: slow\nepochs: 4",
            "This is not YAML, line 3: epochs occurs twice. Write one key: value per line.",
        ),
        ("[]", f"The settings are not a YAML mapping of names to values. {KEYS}"),
    ],
)
def test_place_key_and_what_is_allowed_are_said(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Choice.from_yaml(text, "a.yaml")
    assert str(caught.value) == f"a.yaml: {said}"


def test_what_the_command_gave_is_not_blamed_on_the_file() -> None:
    with pytest.raises(ConfigError, match=r"^The command's epochs: .* from 1 to 9"):
        Choice.from_yaml("kind: slow", "a.yaml", epochs=0)


def test_a_missing_key_is_said_to_be_missing() -> None:
    class Needed(Settings):
        archive: str

    with pytest.raises(ConfigError, match=r"^a\.yaml: Setting archive: it is missing\. It must be text\.$"):
        Needed.from_yaml("", "a.yaml")


def test_no_hint_sends_people_into_the_code() -> None:
    with pytest.raises(ConfigError) as caught:
        Example.build(batch="many")
    assert "class" not in caught.value.hint
    assert "a whole number; by default 8" in caught.value.hint
