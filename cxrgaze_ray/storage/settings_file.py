"""Settings from a YAML file in a folder or a bucket."""

from __future__ import annotations

from typing import Any, TypeVar

from cxrgaze_ray.config import Settings
from cxrgaze_ray.storage.places import open_parent

Chosen = TypeVar("Chosen", bound=Settings)


def read_settings(kind: type[Chosen], uri: str, **overrides: Any) -> Chosen:
    """Read a YAML file; overrides that are not None win over it. ConfigError names file, key and what is allowed."""
    store, key = open_parent(uri)
    return kind.from_yaml(store.read_text(key), uri, **overrides)
