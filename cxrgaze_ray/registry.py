"""The model registry: immutable versions, and a ledger whose entries are all there is to know about aliases.

<name>/versions/v0007/    a bundle, never changed
<name>/ledger/00000012.json    one entry, written once, carrying the hash of the one before
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from datetime import UTC, datetime
from typing import Literal

from pydantic import ValidationError

from cxrgaze_ray.bundle import INFO, Bundle, read_bundle, read_info, write_bundle
from cxrgaze_ray.config import Settings
from cxrgaze_ray.errors import RegistryError
from cxrgaze_ray.runs import ModelPin
from cxrgaze_ray.storage import Store, open_store

CHAMPION = "champion"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_VERSION = re.compile(r"v0*([1-9]\d{0,6})")


class Entry(Settings):
    """One line of a ledger."""

    number: int
    action: Literal["publish", "promote", "rollback"]
    version: str
    weights_sha256: str
    alias: str | None = None
    reason: str = ""
    at: str
    previous_sha256: str
    nonce: str
    """Tells whose a write was whose answer got lost."""


class Registry:
    """Models under one store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def publish(self, bundle: Bundle, reason: str = "") -> ModelPin:
        """Write a bundle as the next version of its name, and enter it in the ledger."""
        name = _checked(bundle.info.name)
        version = self._claim(name)
        write_bundle(self._version_store(name, version), bundle)
        self._append(name, "publish", version, bundle.info.weights_sha256, None, reason)
        return self._pin(name, version, bundle.info.weights_sha256)

    def promote(self, name: str, version: str, alias: str = CHAMPION, reason: str = "") -> ModelPin:
        """Point an alias at a version; its bundle is read and checked first."""
        if _VERSION.fullmatch(alias):
            raise RegistryError(f"{alias} is the name of a version, and can't be an alias.")
        pin = self.resolve(f"{name}@{version}")
        read_bundle(open_store(pin.uri))
        self._append(name, "promote", pin.version, pin.weights_sha256, _checked(alias), reason)
        return pin

    def rollback(self, name: str, alias: str = CHAMPION, reason: str = "") -> ModelPin:
        """Point an alias back at the version it stood for before; RegistryError if there is none."""
        stack: list[str] = []
        history = self.history(name)
        for entry in history:
            if entry.alias != alias:
                continue
            # promoting a version again, or two rollbacks at once, must not count twice
            if entry.action == "promote" and stack[-1:] != [entry.version]:
                stack.append(entry.version)
            while entry.action == "rollback" and stack and stack[-1] != entry.version:
                stack.pop()
        if len(stack) < 2:
            raise RegistryError(f"{name}@{alias} has no earlier version to go back to.", "Promote one by its version.")
        pin = self._pin(name, stack[-2], _published(history, stack[-2]))
        self._append(name, "rollback", pin.version, pin.weights_sha256, alias, reason)
        return pin

    def resolve(self, reference: str) -> ModelPin:
        """Return the exact model that name@alias, name@v3 or a bundle's URI stands for.

        Raises
        ------
        RegistryError
            If there is no such name, version or alias, or another bundle stands in its place; the message says what
            to do.
        """
        name, at, wanted = reference.partition("@")
        if not at or "/" in reference:
            return pin_bundle(reference)
        _checked(name)
        history = self.history(name)
        if not history:
            raise RegistryError(
                f"There is no model {name} in {self.store.uri}.",
                "Train one, or try the plumbing with `cxrgaze models init --preset tiny`.",
            )
        if match := _VERSION.fullmatch(wanted):
            version = _version(int(match[1]))
            if _published(history, version) is None:
                raise RegistryError(f"{name} has no version {version}.", f"See `cxrgaze models show {name}`.")
            return self._pin(name, version, _published(history, version))
        target = _aliases(history).get(wanted)
        if target is None:
            raise RegistryError(
                f"{name} has no alias {wanted}.", f"Promote a version: cxrgaze models promote {name} VERSION."
            )
        return self._pin(name, target, _published(history, target))

    def models(self) -> tuple[str, ...]:
        """Return the names in the registry."""
        return tuple(name for name in self.store.folders() if _NAME.fullmatch(name) and self.history(name))

    def aliases(self, name: str) -> dict[str, str]:
        """Return what each alias stands for: its last promote or rollback entry."""
        return _aliases(self.history(name))

    def history(self, name: str) -> list[Entry]:
        """Return the ledger of a name, checked to be a gap-free chain.

        Raises
        ------
        RegistryError
            If an entry is missing, malformed, or was changed after it was written.
        """
        entries: list[Entry] = []
        previous = ""
        if name not in self.store.folders():
            return entries
        for info in self.store.list(f"{name}/ledger/"):
            data = self.store.get(info.key)
            try:
                entry = Entry.model_validate_json(data)
            except ValidationError as error:
                raise _broken(name, len(entries)) from error
            if entry.number != len(entries) or entry.previous_sha256 != previous:
                raise _broken(name, len(entries))
            previous = hashlib.sha256(data).hexdigest()
            entries.append(entry)
        return entries

    def _claim(self, name: str) -> str:
        """Take the next free version number; concurrent publishers get different ones."""
        taken = [int(match[1]) for folder in self._versions(name) if (match := _VERSION.fullmatch(folder))]
        number = max(taken, default=0) + 1
        nonce = uuid.uuid4().hex.encode()
        while True:
            store = self._version_store(name, _version(number))
            if store.put_if_absent("claim", nonce) or store.get("claim") == nonce:
                return _version(number)
            number += 1

    def _versions(self, name: str) -> tuple[str, ...]:
        return self.store.child(f"{name}/versions").folders()

    def _append(
        self,
        name: str,
        action: Literal["publish", "promote", "rollback"],
        version: str,
        weights_sha256: str,
        alias: str | None,
        reason: str,
    ) -> None:
        """Write the next entry; whoever loses the race for a number takes the next one."""
        nonce = uuid.uuid4().hex
        while True:
            history = self.history(name)
            key = f"{name}/ledger/{len(history):08d}.json"
            previous = f"{name}/ledger/{len(history) - 1:08d}.json"
            entry = Entry(
                number=len(history),
                action=action,
                version=version,
                weights_sha256=weights_sha256,
                alias=alias,
                reason=reason,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
                previous_sha256=hashlib.sha256(self.store.get(previous)).hexdigest() if history else "",
                nonce=nonce,
            )
            if self.store.put_if_absent(key, entry.model_dump_json(indent=2).encode()):
                return
            if json.loads(self.store.get(key))["nonce"] == nonce:
                return  # the put had succeeded, only its answer was lost

    def _version_store(self, name: str, version: str) -> Store:
        return self.store.child(f"{name}/versions/{version}")

    def _pin(self, name: str, version: str, published_sha256: str | None) -> ModelPin:
        info = read_info(self._version_store(name, version))
        if info.weights_sha256 != published_sha256:
            raise RegistryError(
                f"{name}@{version} does not hold the weights that were published: its bundle was replaced.",
                "Do not use it; restore it, or publish the model again.",
            )
        return ModelPin(
            uri=self._version_store(name, version).uri,
            name=name,
            version=version,
            weights_sha256=info.weights_sha256,
            trained=info.trained,
        )


def pin_bundle(uri: str) -> ModelPin:
    """Return the pin of a bundle outside a registry; its version is the start of its weights' hash."""
    store = open_store(uri)
    if not store.exists(INFO):
        raise RegistryError(
            f"There is no bundle at {uri}.", "Name a model as name@champion, name@v3, or a bundle's URI."
        )
    info = read_info(store)
    sha = info.weights_sha256
    return ModelPin(uri=store.uri, name=info.name, version=sha[:12], weights_sha256=sha, trained=info.trained)


def pin_model(registry: str, reference: str) -> ModelPin:
    """Resolve a model reference against the registry at a URI."""
    return Registry(open_store(registry)).resolve(reference)


def _published(history: list[Entry], version: str) -> str | None:
    """Return the hash under which a version was published, or None if it was not."""
    hashes = (entry.weights_sha256 for entry in history if entry.action == "publish" and entry.version == version)
    return next(hashes, None)


def _aliases(history: list[Entry]) -> dict[str, str]:
    return {entry.alias: entry.version for entry in history if entry.alias is not None}


def _version(number: int) -> str:
    return f"v{number:04d}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise RegistryError("A model name or alias is made of a-z, 0-9 and -, and begins with a letter or digit.")
    return name


def _broken(name: str, number: int) -> RegistryError:
    return RegistryError(
        f"The ledger of {name} is broken at entry {number}: it was changed, or an entry is missing.",
        "Restore it from a backup; bundles themselves can still be used by their URI.",
    )
