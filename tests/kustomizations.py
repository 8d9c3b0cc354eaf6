"""The part of kustomize that `infra/kuberay` keeps to, rendered strictly: any other key or operation is an error.

kustomize itself is in no package that CI installs. Where a new `kubectl` is, a test compares the two.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]

_CLUSTER_WIDE = {"Namespace"}
_KEYS = {"apiVersion", "kind", "namespace", "resources", "images", "patches"}


def documents(path: Path) -> list[Any]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def render(folder: Path) -> list[Document]:
    """Return what `kubectl kustomize FOLDER` prints, as documents."""
    (kustomization,) = documents(folder / "kustomization.yaml")
    _only(kustomization, _KEYS)
    assert kustomization["apiVersion"] == "kustomize.config.k8s.io/v1beta1"
    assert kustomization["kind"] == "Kustomization"
    found = [copy.deepcopy(one) for name in kustomization["resources"] for one in _resource(folder / name)]
    for one in found:
        if one["kind"] not in _CLUSTER_WIDE:
            one["metadata"]["namespace"] = kustomization["namespace"]
    for patch in kustomization.get("patches", []):
        _patch(found, patch, folder)
    for image in kustomization.get("images", []):
        _only(image, {"name", "newName", "newTag"})
        for container in containers(found):
            if container["image"].rpartition(":")[0] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(set(names)) == len(names), f"{folder} names a resource twice"
    return found


def containers(node: Any) -> Iterator[Document]:
    """Yield every container below a node, those that prepare a pod too."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("containers", "initContainers"):
                yield from value
            else:
                yield from containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)


def _resource(path: Path) -> list[Document]:
    return render(path) if path.is_dir() else documents(path)


def _only(mapping: Document, known: set[str]) -> None:
    assert set(mapping) <= known, f"not in the part that is rendered: {set(mapping) - known}"


def _patch(found: list[Document], patch: Document, folder: Path) -> None:
    """Apply a file of JSON patch operations (RFC 6902) to all that it aims at; it has to hit something."""
    _only(patch, {"path", "target"})
    target = patch["target"]
    _only(target, {"kind", "name"})
    hit = [one for one in found if all(target[key] == _named(one)[key] for key in target)]
    assert hit, f"{patch['path']} in {folder} aims at nothing"
    (operations,) = documents(folder / patch["path"])
    for one in hit:
        for operation in operations:
            _operate(one, copy.deepcopy(operation))


def _named(document: Document) -> dict[str, str]:
    return {"kind": document["kind"], "name": document["metadata"]["name"]}


def _operate(document: Document, operation: Document) -> None:
    *parents, last = operation["path"].strip("/").split("/")
    node: Any = document
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    place: Any = int(last) if isinstance(node, list) else last
    there = place < len(node) if isinstance(node, list) else place in node
    match operation:
        case {"op": "add", "path": _, "value": value} if isinstance(node, dict) and not there:
            node[place] = value
        case {"op": "replace", "path": _, "value": value} if there:
            node[place] = value
        case {"op": "remove", "path": _} if there and len(operation) == 2:
            del node[place]
        case _:
            raise AssertionError(f"can't be done: {operation}")
