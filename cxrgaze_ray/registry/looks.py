"""A look at a test split counts however the model was named: by alias, version, URI, or a copy of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cxrgaze_ray.registry.ledger import Chain
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.storage import open_store

_HOME = re.compile(r"(?P<root>.+)/(?P<name>[a-z0-9][a-z0-9-]*)/(?:versions/v\d+|retraining/[0-9a-f]+/candidate)")
"""Paths under which a registry keeps the bundles of a model."""


def enter_look(registry: Registry, pin: ModelPin, stores: Sequence[str], reason: str) -> tuple[str, ...]:
    """Record that a model is shown the test splits of stores, in every ledger that knows its weights or its name.

    Parameters
    ----------
    registry
        Registry to ask first; then comes the one that the bundle lies in, if that is another.
    pin
        The model, however it was named.
    stores
        Hashes of the stores.
    reason
        Reason to write into the entry.

    Returns
    -------
    tuple of str
        Names of the models whose ledgers now hold the look; none if no registry knows the weights or the name.

    Raises
    ------
    RegistryError
        If one of those ledgers is broken: the look could not be counted.
    """
    found = list(_keepers(registry, pin))
    for opened, name in found:
        version = _version(opened.ledger(name).read(), pin)
        opened.look(name, pin.weights_sha256, stores, reason, version=version)
    return tuple(name for _, name in found)


def _keepers(registry: Registry, pin: ModelPin) -> Iterator[tuple[Registry, str]]:
    """Yield registries and the names there that the weights were published as, or that the model has."""
    yield from ((registry, name) for name in registry.models() if _knows(registry, name, pin))
    home = _HOME.fullmatch(pin.uri)
    if home is None or open_store(home["root"]).uri == registry.store.uri:
        return
    other = Registry(open_store(home["root"]))
    if other.history(home["name"]):
        yield other, home["name"]


def _knows(registry: Registry, name: str, pin: ModelPin) -> bool:
    return name == pin.name or _version(registry.ledger(name).read(), pin) is not None


def _version(chain: Chain, pin: ModelPin) -> str | None:
    """Return the version that the weights were published as: the pin's own, else the first; None if they were not."""
    versions = [
        entry.version
        for entry in chain.entries
        if entry.action == "publish" and entry.weights_sha256 == pin.weights_sha256
    ]
    return pin.version if pin.version in versions else next(iter(versions), None)
