"""Every setting has bounds: nobody can choose no epochs, an endless wait, or a list of nothing."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

import cxrgaze_ray
import jobs
from cxrgaze_ray.cli import app
from cxrgaze_ray.config import Settings
from cxrgaze_ray.scoring.runs import ScoreOptions
from cxrgaze_ray.training.settings import StageSettings, TrainSettings

ANYTHING = {
    ("RetrainSettings", "training"),
    ("RetrainJob", "training"),
    ("TrainJob", "settings"),
    ("TrainOrder", "settings"),
    ("TrainSettings", "architecture"),
    ("TablesSettings", "training"),
}
"""Mappings that a validator of their own holds against other settings."""


def every_settings() -> list[type[Settings]]:
    """Import all there is, and return each class of settings."""
    for package in (cxrgaze_ray, jobs):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)

    def below(kind: type[Settings]) -> Iterator[type[Settings]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    ours = {one for one in below(Settings) if one.__module__.startswith(("cxrgaze_ray", "jobs"))}
    return sorted(ours, key=lambda kind: kind.__qualname__)


def unbounded(node: dict[str, Any], place: str) -> Iterator[str]:
    """Yield what in a JSON schema lets a value be as small, as large or as long as it likes."""
    for branch in node.get("anyOf", []):
        yield from unbounded(branch, place)
    kind = node.get("type")
    if kind in {"integer", "number"} and not (
        {"minimum", "exclusiveMinimum"} & set(node) and {"maximum", "exclusiveMaximum"} & set(node)
    ):
        yield f"{place}: a number needs ge or gt, and le or lt"
    if kind == "string" and not {"enum", "const", "format", "pattern"} & set(node) and "maxLength" not in node:
        yield f"{place}: text needs min_length and max_length, a pattern, or choices"
    if kind == "array":
        if not {"minItems", "maxItems"} <= set(node):
            yield f"{place}: a list needs min_length, be it 0, and max_length"
        for item in [*node.get("prefixItems", []), *([node["items"]] if isinstance(node.get("items"), dict) else [])]:
            yield from unbounded(item, f"{place}[]")
    if kind == "object" and isinstance(below := node.get("additionalProperties"), dict):
        yield from unbounded(below, f"{place}.*")
    if not {"type", "anyOf", "enum", "const", "$ref"} & set(node) or node.get("additionalProperties") is True:
        yield f"{place}: anything goes"


def loose(kind: type[Settings]) -> list[str]:
    fields = kind.model_json_schema()["properties"]
    wanted = {name: node for name, node in fields.items() if (kind.__name__, name) not in ANYTHING}
    return [fault for name, node in wanted.items() for fault in unbounded(node, f"{kind.__qualname__}.{name}")]


def test_every_setting_has_bounds() -> None:
    kinds = every_settings()
    assert {"StageSettings", "ServeFile", "ScoreJob", "S3Settings", "Drift"} <= {kind.__name__ for kind in kinds}
    assert [fault for kind in kinds for fault in loose(kind)] == []


def test_the_walk_finds_what_has_no_bounds() -> None:
    class Loose(Settings):
        epochs: int = 1
        share: float | None = None
        name: str = "-"
        names: tuple[str, ...] = ()
        box: tuple[float, float] = (0, 1)
        stages: dict[str, int] = {}
        more: Any = None

    places = {fault.split(":")[0].rpartition("Loose.")[2] for fault in loose(Loose)}
    assert places == {"epochs", "share", "name", "names", "names[]", "box[]", "stages.*", "more"}


def test_defaults_keep_to_their_own_bounds() -> None:
    for kind in every_settings():
        if not any(field.is_required() for field in kind.model_fields.values()):
            assert kind.model_validate(kind().model_dump()) == kind()


def commands(group: typer.Typer) -> Iterator[Any]:
    """Yield the function of every command."""
    yield from (command.callback for command in group.registered_commands)
    for below in group.registered_groups:
        assert below.typer_instance is not None
        yield from commands(below.typer_instance)


def test_every_number_on_the_command_line_has_a_least_value() -> None:
    numbers = [
        (f"{command.__module__}.{command.__name__} {name}", option)
        for command in commands(app)
        for name, hint in get_type_hints(command, include_extras=True).items()
        if get_origin(hint) is Annotated and {int, float} & {hint.__origin__, *get_args(hint.__origin__)}
        for option in hint.__metadata__
    ]
    assert len(numbers) > 20
    assert [name for name, option in numbers if option.min is None] == []


def test_bounds_move_no_hash() -> None:
    # run ids and names of trainings are hashes of these texts
    options = '{"view":"frontal","limit":3,"decode":"full","identities":"keyed"}'
    assert ScoreOptions(limit=3).identity() == options
    stage = '{"epochs":50,"batch":16,"lr":0.0001,"patience":10}'
    assert TrainSettings(stages={"encoder": StageSettings()}).identity() == (
        '{"preset":"full","seed":0,"stages":{"encoder":' + stage + '},"triplet":"batch_all",'
        '"legacy_batchnorm_drift":false,"cache_features":true,"backbone":"imagenet"}'
    )
