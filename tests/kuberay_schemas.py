"""Checks `infra/kuberay` against KubeRay's schemas, which are not ours to ship: python -m tests.kuberay_schemas FOLDER.

FOLDER holds the custom resource definitions of KubeRay's release: ``ray-operator/config/crd/bases`` of its repository.
A key that the schemas do not know is an error: the API server drops it, and what it should do would not be done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tests.kustomizations import documents, render

KUBERAY = Path(__file__).parents[1] / "infra" / "kuberay"


def closed(schema: Any) -> Any:
    """Return a schema whose objects refuse the properties that they do not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {key: closed(value) for key, value in schema.items()}
    named = isinstance(schema.get("properties"), dict)
    if named and not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
        found["additionalProperties"] = False
    return found


def schemas(folder: Path) -> dict[tuple[str, str], Any]:
    """Return the schema of each version and kind."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        (definition,) = documents(path)
        spec = definition["spec"]
        for version in spec["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def complaints(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the custom resources of every kustomization."""
    known = schemas(folder)
    for path in sorted(KUBERAY.rglob("kustomization.yaml")):
        for document in render(path.parent):
            schema = known.get((document["apiVersion"], document["kind"]))
            if document["apiVersion"].startswith("ray.io/") and schema is None:
                yield f"{document['kind']} of {document['apiVersion']} is unknown"
            for error in Draft202012Validator(schema or {}).iter_errors(document):
                place = "/".join(map(str, error.absolute_path))
                yield f"{path.parent.relative_to(KUBERAY)}: {document['metadata']['name']}: {place}: {error.message}"


if __name__ == "__main__":
    found = list(complaints(Path(sys.argv[1])))
    print(*found or ["Every custom resource is one that KubeRay knows."], sep="\n")
    sys.exit(bool(found))
