"""The page of the HTTP interface, from the application's own OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cxrgaze_ray.serving.routes import document
from docs.generate.text import cell, code, table

_HEAD = """# HTTP

`cxrgaze serve` answers on 127.0.0.1:8000; [how to serve](../how-to/serve.md) says how to start, guard and bound it.
A token, where one is asked for, goes into the header `Authorization: Bearer ...`.

"""


def http() -> str:
    """Return the page."""
    found = document()
    found = _inlined(found, found.get("components", {}).get("schemas", {}))
    routes = [
        _route(method, path, operation)
        for path, methods in found["paths"].items()
        for method, operation in methods.items()
        if method in {"get", "post", "put", "delete"}
    ]
    shapes = found.get("components", {}).get("schemas", {})
    models = [_model(name, shape) for name, shape in shapes.items() if "properties" in shape]
    told = found["info"].get("description", "")
    return "\n".join([_HEAD, f"{told}\n", *routes, "## Bodies\n" if models else "", *models])


def _inlined(node: Any, shapes: dict[str, Any]) -> Any:
    """Put lists of words where they are referred to: only bodies with fields have a section of their own."""
    if isinstance(node, list):
        return [_inlined(one, shapes) for one in node]
    if not isinstance(node, dict):
        return node
    shape = shapes.get(str(node.get("$ref", "")).rpartition("/")[2], {"properties": {}})
    return node | shape if "properties" not in shape else {key: _inlined(one, shapes) for key, one in node.items()}


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"## {method.upper()} {path}\n", *[f"{operation.get(one, '')}\n" for one in ("summary", "description")]]
    rows = [
        [code(one["name"]), one["in"], _kind(one.get("schema", {})), one.get("description", "")]
        for one in operation.get("parameters", [])
        if one["name"] != "self"
    ]
    parts += [table(["parameter", "in", "value", "what it does"], rows)] if rows else []
    body = operation.get("requestBody", {}).get("content", {})
    parts += [
        table(["body", "what it holds"], [[code(kind), _kind(one.get("schema", {}))] for kind, one in body.items()])
    ] * bool(body)
    answers = [
        [code(status), ", ".join(map(code, one.get("content", {}))), _content(one), one.get("description", "")]
        for status, one in operation.get("responses", {}).items()
    ]
    parts.append(table(["status", "type", "body", "when"], answers))
    return "\n".join([*parts, *_examples(operation)])


def _content(answer: dict[str, Any]) -> str:
    kinds = (_kind(one.get("schema", {})) for one in answer.get("content", {}).values())
    return ", ".join(dict.fromkeys(kind for kind in kinds if kind))


def _examples(operation: dict[str, Any]) -> Iterator[str]:
    """Yield the examples of bodies and answers that are JSON."""
    for status, one in operation.get("responses", {}).items():
        for kind, content in one.get("content", {}).items():
            given = content.get("examples") or ({"": {"value": content["example"]}} if "example" in content else {})
            for name, example in given.items():
                if "json" in kind and "value" in example:
                    told = cell(str(example.get("summary") or name))
                    body = json.dumps(example["value"], indent=2, ensure_ascii=False)
                    yield f"An answer of {status}{f': {told}' if told else ''}:\n\n```json\n{body}\n```\n"


def _kind(schema: dict[str, Any]) -> str:
    if branches := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(dict.fromkeys(_kind(one) for one in branches))
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(code(json.dumps(one).strip('"')) for one in choices)
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object" and (inside := schema.get("properties")):
        return ", ".join(f"{code(name)}: {_kind(one)}" for name, one in inside.items())
    if schema.get("type") == "null":
        return "null"
    return "bytes" if schema.get("format") == "binary" else str(schema.get("type", ""))


def _model(name: str, shape: dict[str, Any]) -> str:
    needed = shape.get("required", [])
    rows = [
        [code(field), _kind(one), "yes" if field in needed else "", one.get("description", "").partition("\n\n")[0]]
        for field, one in shape["properties"].items()
    ]
    head = f"### {name}\n\n{shape.get('description', '')}\n\n"
    told = {field: one.get("description", "").partition("\n\n")[2] for field, one in shape["properties"].items()}
    # no cell of a table holds a list
    lists = [f"\n{code(field)} more fully:\n\n{more}\n" for field, more in told.items() if more]
    return head + table(["field", "value", "always", "what it is"], rows) + "".join(lists)
