"""Settings: defaults, YAML over them, options over both, and errors that name the key."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

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
