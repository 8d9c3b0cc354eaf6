"""What is wrong with settings, in the words of the person who wrote them: the key, and what it may be."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

Schema = dict[str, Any]

_KINDS = {
    "integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text",
    "array": "a list", "object": "a mapping of keys to values", "null": "nothing (null)",
}  # fmt: skip
_LABELS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
"""Names that pydantic gives to the branches of a union in an error's location."""


class SettingFault(NamedTuple):
    """The first fault found: its dotted key, or "" for the whole; what is wrong, and what would be right."""

    key: str
    what: str
    hint: str


def first_fault(kind: type[BaseModel], error: ValidationError, spell: Callable[[str], str] = str) -> SettingFault:
    """Describe a validation error; `spell` turns the name of a field of `kind` into what the person wrote."""
    # every branch of a union reports an error; the most deeply nested one is from the branch that was meant
    found = max(error.errors(include_url=False), key=lambda one: len(one["loc"]))
    schema = kind.model_json_schema()
    walk = list(_walk(schema, found["loc"]))
    keys = [str(part) for part, _, is_key in walk if is_key]
    node, place = (walk[-1][1] if walk else schema), ".".join([*map(spell, keys[:1]), *keys[1:]])
    if found["type"] == "extra_forbidden" or (keys and found["loc"][-1] == "[key]"):
        parent = walk[-2][1] if len(walk) > 1 else schema
        return SettingFault(place, "there is no such key", _nearest(keys[-1], _keys(schema, parent), spell))
    if found["type"] == "value_error":  # from a rule of ours, whose sentence says it all
        hint = f"The keys are {', '.join(map(spell, known))}." if (known := _keys(schema, node)) else ""
        return SettingFault(place, found["msg"].removeprefix("Value error, "), hint)
    what = "it is missing" if found["type"] == "missing" else f"this is not allowed{_given(found['input'])}"
    return SettingFault(place, what, f"It must be {describe(schema, node)}.")


def _given(value: Any) -> str:
    """Return a number that was given; other values may be long, or name somebody."""
    return f" ({_shown(value)})" if isinstance(value, (bool, int, float)) else ""


def describe(schema: Schema, node: Schema) -> str:
    """Return what a value may be: kind, bounds or choices, and the default."""
    text = " or ".join(dict.fromkeys(_one(schema, _resolved(schema, branch)) for branch in _branches(node)))
    default = node.get("default")
    told = default not in (None, "") and not isinstance(default, (dict, list))
    return f"{text}; by default {_shown(default)}" if told else text


def _one(schema: Schema, node: Schema) -> str:
    if "const" in node or "enum" in node:
        choices = node.get("enum", [node.get("const")])
        return ("one of " if len(choices) > 1 else "") + ", ".join(map(_shown, choices))
    kind = node.get("type", "")
    if kind == "object" and "properties" in node:
        return f"a mapping with keys among {', '.join(node['properties'])}"
    if kind == "array" and isinstance(node.get("items"), dict):
        return f"a list{_size(node, 'Items')}, each {describe(schema, node['items'])}"
    if kind == "string":
        return (
            "the path of an existing file"
            if node.get("format") == "file-path"
            else f"text{_size(node, 'Length')}{_form(node)}"
        )
    return _KINDS.get(kind, "any value") + (_bounds(node) if kind in {"integer", "number"} else _size(node, "Items"))


def _bounds(node: Schema) -> str:
    if "minimum" in node and "maximum" in node:
        return f" from {_shown(node['minimum'])} to {_shown(node['maximum'])}"
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    found = [f"{word} {_shown(node[name])}" for name, word in words.items() if name in node]
    return f" {' and '.join(found)}" if found else ""


def _size(node: Schema, unit: str) -> str:
    least, most = node.get(f"min{unit}", 0), node.get(f"max{unit}")
    word = {"Items": "entr", "Length": "character"}[unit]
    words = word + {"Items": "y" if most == 1 else "ies", "Length": "" if most == 1 else "s"}[unit]
    if most is None:
        return f" of at least {least} {words}" if least else ""
    if not least:
        return f" of at most {most} {words}"
    return f" of {most} {words}" if least == most else f" of {least} to {most} {words}"


def _form(node: Schema) -> str:
    return f" that matches {node['pattern']}" if "pattern" in node else ""


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _nearest(key: str, known: Sequence[str], spell: Callable[[str], str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return (f"Did you mean {spell(near[0])}? " if near else "") + f"The keys are {', '.join(map(spell, known))}."


def _walk(schema: Schema, place: Sequence[int | str]) -> Iterator[tuple[int | str, Schema, bool]]:
    """Yield each part of an error's place, what may stand there, and whether the person wrote it.

    A part that is not a key is a branch of a union; if it is the last part, all branches remain open.
    """
    node = _resolved(schema, schema)
    for number, part in enumerate(place):
        if part == "[key]":
            continue
        below = [found for one in _branches(node) if (found := _below(_resolved(schema, one), part)) is not None]
        if below:
            node = _resolved(schema, below[0])
            yield part, node, True
        elif len(list(_branches(node))) > 1:
            last = number == len(place) - 1
            node = node if last else _branch(schema, node, str(part))
            yield part, node, False
        else:
            node = {}
            yield part, node, True


def _below(node: Schema, part: int | str) -> Schema | None:
    """Return what may stand below a node under a key or number."""
    found: Schema | None = None
    if isinstance(part, int):
        fixed = node.get("prefixItems", [])
        found = fixed[part] if part < len(fixed) else node.get("items")
    elif part in node.get("properties", {}):
        found = node["properties"][part]
    elif isinstance(node.get("additionalProperties"), dict):
        found = node["additionalProperties"]
    return found if isinstance(found, dict) else None


def _branches(node: Schema) -> Iterator[Schema]:
    yield from node.get("anyOf", [node])


def _branch(schema: Schema, node: Schema, label: str) -> Schema:
    """Return the branch of a union that pydantic gives this label."""
    resolved = [_resolved(schema, one) for one in _branches(node)]
    kind = _LABELS.get(label, "array" if "[" in label else "")
    return next((one for one in resolved if one.get("title") == label or one.get("type") == kind), resolved[0])


def _resolved(schema: Schema, node: Schema) -> Schema:
    """Follow a reference; keep what stands beside it, such as a default."""
    if "$ref" not in node:
        return node
    target: Schema = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return target | {name: value for name, value in node.items() if name != "$ref"}


def _keys(schema: Schema, node: Schema) -> list[str]:
    """Return the keys that a mapping may have."""
    for one in _branches(node):
        found = _resolved(schema, one)
        if names := list(found.get("properties", {})) or found.get("propertyNames", {}).get("enum", []):
            return list(names)
    return []
