"""The page of settings: every class that a YAML file, `--set` or a Python argument fills."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any

from pydantic_core import PydanticUndefined

import cxrgaze_ray
import jobs
from cxrgaze_ray.config import Settings
from docs.generate.text import code, prose, remarks, table

_HEAD = """# Settings

Classes that a job's YAML file, `--config`, `--set` or a Python argument fills. Unknown keys are refused, and every
value has bounds. `jobs/` and `serve_configs/` hold files to begin with.

"""

_LEFT_OUT = ("cxrgaze_ray.benchmark", "cxrgaze_ray.api", "cxrgaze_ray.phantoms")
"""Where settings are arguments of a function that says the same."""

_BOUNDS = {"exclusiveMinimum": "above", "minimum": "from", "maximum": "to", "exclusiveMaximum": "below"}


def every_settings() -> list[type[Settings]]:
    """Import all there is, and return each class that holds settings."""
    for package in (cxrgaze_ray, jobs):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and not module.name.startswith(_LEFT_OUT):
                importlib.import_module(module.name)
    found = {one for one in _below(Settings) if one.__module__.startswith(("cxrgaze_ray", "jobs."))}
    shown = (one for one in found if not one.__module__.startswith(_LEFT_OUT) and not one.__name__.startswith("_"))
    return sorted(shown, key=lambda one: one.__name__)


def _below(kind: type[Settings]) -> Iterator[type[Settings]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


def settings() -> str:
    """Return the page."""
    return _HEAD + "\n".join(map(_section, every_settings()))


def _section(kind: type[Settings]) -> str:
    schema = kind.model_json_schema()
    told = _told(kind)
    rows = [
        [code(name), _allowed(schema["properties"][name], schema.get("$defs", {})), _default(field), told.get(name, "")]
        for name, field in kind.model_fields.items()
        if name in schema["properties"]
    ]
    words = prose(kind.__doc__).partition("\n\nAttributes\n")[0] if kind.__doc__ != Settings.__doc__ else ""
    of = f"`{kind.__module__}`"
    return f"## {kind.__name__}\n\n{words}\n\nIn {of}.\n\n{table(['key', 'value', 'default', 'what it does'], rows)}"


def _told(kind: type[Settings]) -> dict[str, str]:
    """Return what stands below each field, in the class or in one that it is made of."""
    told: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, Settings) and base is not Settings:
            told |= remarks(sys.modules[base.__module__], base.__name__)
    return told


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return ""
    return "as its class says" if isinstance(value, Settings) else code(value)


def _allowed(node: dict[str, Any], named: dict[str, Any]) -> str:
    """Return what a field takes, in words, from its JSON schema."""
    if branches := node.get("anyOf", node.get("oneOf")):
        return " or ".join(dict.fromkeys(_allowed(one, named) for one in branches))
    if reference := node.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if "properties" in named[name] else _allowed(named[name], named)
    if choices := node.get("enum", [node["const"]] if "const" in node else []):
        return ", ".join(map(code, choices))
    bounds = " ".join(f"{word} {node[key]}" for key, word in _BOUNDS.items() if key in node)
    match node.get("type", "anything"):
        case "array":
            inside = node.get("items") or {}
            return f"list of {_allowed(inside, named)}" if inside else "list"
        case "object":
            return "mapping"
        case "null":
            return "nothing"
        case "string":
            return f"text like `{node['pattern']}`" if "pattern" in node else "text"
        case kind:
            return f"{kind} {bounds}".strip()
