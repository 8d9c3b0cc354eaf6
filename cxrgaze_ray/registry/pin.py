"""The exact weights of one version: what runs, services and reports hold on to."""

from __future__ import annotations

from cxrgaze_ray.config import Record


class ModelPin(Record):
    """The exact weights of a run: the same until it ends, wherever the alias moves."""

    uri: str
    name: str
    version: str
    weights_sha256: str
    trained: bool
