"""The model registry: immutable versions, and a ledger whose entries are all there is to know about aliases.

<name>/versions/v0007/    a bundle, never changed
<name>/ledger/00000012.json    one entry, written once, carrying the hash of the one before
"""

from __future__ import annotations

import os
import shlex
import uuid
from collections.abc import Callable, Sequence

from cxrgaze_ray.errors import RegistryError, UserError
from cxrgaze_ray.models.bundle import INFO, Bundle, BundleInfo, check_bundle, read_hashed_info, read_info, write_bundle
from cxrgaze_ray.registry.ledger import UNSET, Chain, Draft, Entry, Ledger, Unset, rules, signature
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.storage import Store, open_store

CHAMPION = "champion"


class Registry:
    """Models under one store; one that is kept reads no entry twice. `who` is by default $CXRGAZE_WHO or user@host."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._ledgers: dict[str, Ledger] = {}

    def publish(self, bundle: Bundle, reason: str = "", *, who: str | None = None) -> ModelPin:
        """Write a bundle as the next version of its name, and enter it in the ledger."""
        name, sha256 = rules.checked_name(bundle.info.name), bundle.info.weights_sha256
        ledger = self.ledger(name)
        ledger.read()  # a broken one is told before weights are written
        version = self._claim(name)
        written = write_bundle(self.version_store(name, version), bundle, lambda: ledger.read().head)
        draft = Draft(
            action="publish", version=version, weights_sha256=sha256, reason=reason, who=signature(who),
            bundle_sha256=written,
        )  # fmt: skip
        chain = ledger.append(ledger.read(), draft)
        assert chain is not None
        return self._pin(name, version, chain)

    def look(
        self,
        name: str,
        weights_sha256: str,
        stores: Sequence[str],
        reason: str = "",
        *,
        who: str | None = None,
        version: str | None = None,
    ) -> bool:
        """Enter that weights were shown the test splits of stores, by their hashes.

        Returns
        -------
        bool
            False, without an entry, if these weights saw all of them before: looking again reveals nothing new.
        """
        ledger = self.ledger(rules.checked_name(name))
        draft = Draft(
            action="look", version=version and rules.normal_version(version), weights_sha256=weights_sha256,
            stores=tuple(dict.fromkeys(stores)), reason=reason, who=signature(who),
        )  # fmt: skip

        def unseen(chain: Chain) -> bool:
            return any(weights_sha256 not in chain.lookers(store) for store in stores)

        return ledger.append(ledger.read(), draft, unseen) is not None

    def looks(self, name: str, stores: Sequence[str]) -> int:
        """Return the most distinct weights that the test split of any one of these stores has been shown to."""
        chain = self.ledger(name).read()
        return max((len(chain.lookers(store)) for store in stores), default=0)

    def has_looked(self, name: str, weights_sha256: str, stores: Sequence[str]) -> bool:
        """Return whether weights were shown the test splits of all these stores before."""
        chain = self.ledger(name).read()
        return all(weights_sha256 in chain.lookers(store) for store in stores)

    def record_gate(
        self,
        name: str,
        version: str,
        outcome: str,
        evidence_key: str,
        evidence_sha256: str,
        reason: str = "",
        *,
        who: str | None = None,
    ) -> None:
        """Enter what the gate found of a published version, and where below the model's folder its report lies."""
        ledger = self.ledger(rules.checked_name(name))
        seen = ledger.read()
        pin = self._find(name, version, seen)
        draft = Draft(
            action="gate", version=pin.version, weights_sha256=pin.weights_sha256, reason=reason, who=signature(who),
            outcome=outcome, evidence=evidence_key, evidence_sha256=evidence_sha256,
        )  # fmt: skip
        ledger.append(seen, draft)

    def promote(
        self,
        name: str,
        version: str,
        alias: str = CHAMPION,
        reason: str = "",
        *,
        note: str = "",
        who: str | None = None,
        expected: str | Unset | None = UNSET,
        say: Callable[[str], None] = lambda _: None,
    ) -> ModelPin:
        """Point an alias at a version, or at another alias's; its bundle is read and checked first.

        Parameters
        ----------
        reason
            A person's. Must be given where something is skipped: the gate last said anything but accepted of this
            version, or the alias stands for one of which more is known (judged, or trained where this one is not).
        note
            Goes into the ledger where no reason is given, and excuses nothing.
        expected
            Version that the caller saw the alias stand for, None for no such alias; unset asks for nothing.
        say
            Called with what was skipped, if anything was.

        Raises
        ------
        RegistryError
            If something would be skipped without a reason; PromotionConflict if the alias stands elsewhere than
            expected, or somebody moved it meanwhile. Nothing is written.
        """
        if rules.VERSION.fullmatch(alias):
            raise RegistryError(
                f"{alias} is the name of a version, and can't be an alias.", "Name it otherwise: --alias."
            )
        ledger = self.ledger(rules.checked_name(name))
        seen = ledger.read()
        pin = self._find(name, version, seen)
        check_bundle(open_store(pin.uri))
        draft = Draft(
            action="promote", version=pin.version, weights_sha256=pin.weights_sha256, alias=rules.checked_name(alias),
            reason=reason if reason.strip() else note, who=signature(who),
        )  # fmt: skip
        skips = ""

        def allow(chain: Chain) -> bool:
            nonlocal skips
            rules.check_expected(name, alias, expected, chain)
            skips = self._skips(name, alias, pin.version, chain, trained=pin.trained)
            rules.check_reason(skips, reason)
            return True

        ledger.append(seen, draft, allow)
        if skips:
            say(skips)
        return pin

    def check_successor(self, name: str, reason: str = "", *, trained: bool) -> None:
        """Raise RegistryError, before a version is made, if its promotion to champion will need a reason."""
        skips = self._skips(name, CHAMPION, None, self.ledger(rules.checked_name(name)).read(), trained=trained)
        rules.check_reason(skips, reason, "Or publish it, and promote nothing.")

    def rollback(self, name: str, alias: str = CHAMPION, reason: str = "", *, who: str | None = None) -> ModelPin:
        """Point an alias back at the version it stood for before.

        Raises
        ------
        RegistryError
            If there is none; PromotionConflict if somebody moved the alias meanwhile.
        """
        ledger = self.ledger(rules.checked_name(name))
        seen = ledger.read()
        trail = seen.trail(alias)
        if not trail:
            known = ", ".join(sorted(seen.aliases())) or "none"
            raise RegistryError(f"{name} has no alias {alias}.", f"Its aliases: {known}.")
        if len(trail) < 2:
            raise RegistryError(f"{name}@{alias} has no earlier version to go back to.", "Promote one by its version.")
        pin = self._pin(name, trail[-2], seen)
        draft = Draft(
            action="rollback", version=pin.version, weights_sha256=pin.weights_sha256, alias=alias, reason=reason,
            who=signature(who),
        )  # fmt: skip
        ledger.append(seen, draft)
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
        return self._find(rules.checked_name(name), wanted, self.ledger(name).read())

    def named(self, reference: str) -> ModelPin:
        """Return the model that NAME, NAME@ALIAS or NAME@VERSION stands for; NAME alone is `current`."""
        name, at = rules.name_and_version(reference)
        return self.current(name) if at is None else self.resolve(f"{name}@{at}")

    def current(self, name: str) -> ModelPin:
        """Return a model's champion or, where there is none, its last version; RegistryError if it has neither."""
        chain = self.ledger(name).read()
        version = chain.aliases().get(CHAMPION) or next(reversed(chain.versions()), CHAMPION)
        return self.resolve(f"{name}@{version}")

    def models(self) -> tuple[str, ...]:
        """Return the names in the registry."""
        return tuple(name for name in self.store.folders() if rules.NAME.fullmatch(name) and self.history(name))

    def aliases(self, name: str) -> dict[str, str]:
        """Return what each alias stands for: its last promote or rollback entry."""
        return self.ledger(name).read().aliases()

    def history(self, name: str) -> tuple[Entry, ...]:
        """Return the ledger of a name; RegistryError if it is no gap-free chain of entries as they were written."""
        return self.ledger(name).read().entries

    def head(self, name: str) -> str:
        """Return the hash of the ledger's last entry, "" if there is none: whoever keeps it can tell a cut ledger."""
        return self.ledger(name).read().head

    def ledger(self, name: str) -> Ledger:
        """Return the ledger of a name; nothing is read yet."""
        return self._ledgers.setdefault(name, Ledger(self.store, name))

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the version folders that are there, published or not."""
        folders = self.store.child(f"{name}/versions").folders()
        return tuple(folder for folder in folders if rules.VERSION.fullmatch(folder))

    def version_store(self, name: str, version: str) -> Store:
        """Return the store of a version's bundle."""
        return self.store.child(f"{name}/versions/{version}")

    def _skips(self, name: str, alias: str, version: str | None, chain: Chain, *, trained: bool) -> str:
        def is_trained(stands: str) -> bool:
            try:
                return read_info(self.version_store(name, stands)).trained
            except UserError:
                return False  # its bundle is gone or broken: nothing is lost with it

        return rules.skipped(name, alias, version, chain, trained=trained, is_trained=is_trained)

    def _claim(self, name: str) -> str:
        """Take the next free version number; concurrent publishers get different ones."""
        taken = [int(match[1]) for folder in self.versions(name) if (match := rules.VERSION.fullmatch(folder))]
        number = max(taken, default=0) + 1
        nonce = uuid.uuid4().hex.encode()
        while True:
            store = self.version_store(name, rules.version_name(number))
            # ours, too, where the put's answer was lost and the next try found its own claim
            if store.put_if_absent("claim", nonce) or store.get("claim") == nonce:
                return rules.version_name(number)
            number += 1

    def _find(self, name: str, wanted: str, chain: Chain) -> ModelPin:
        """Pin a version or alias."""
        if not chain.entries:
            raise self._no_model(name)
        version = rules.normal_version(wanted) if rules.VERSION.fullmatch(wanted) else chain.aliases().get(wanted)
        if version is None:
            known = ", ".join([*sorted(chain.aliases()), *chain.versions()])
            raise RegistryError(f"{name} has no alias {wanted}.", f"It has {known}.")
        return self._pin(name, version, chain)

    def _no_model(self, name: str) -> RegistryError:
        if others := self.models():
            return RegistryError(
                f"There is no model {name} in {self.store.uri}.", f"The models there are {', '.join(others)}."
            )
        start = f"cxrgaze models init --preset tiny --registry {shlex.quote(self.store.uri)}"
        return RegistryError(
            f"There is no model {name} in {self.store.uri}, and no other.",
            f"If that is the registry you mean, train a model, or try the plumbing: {start}.",
        )

    def _pin(self, name: str, version: str, chain: Chain) -> ModelPin:
        entry = chain.published(version)
        if entry is None:
            raise RegistryError(f"{name} has no version {version}.", f"See `cxrgaze models show {name}`.")
        store = self.version_store(name, version)
        info, sha256 = read_hashed_info(store)
        if info.weights_sha256 != entry.weights_sha256:
            raise RegistryError(
                f"{name}@{version} does not hold the weights that were published: its bundle was replaced.",
                "Do not use it; restore it, or publish the model again.",
            )
        if entry.bundle_sha256 not in (None, sha256):
            raise RegistryError(
                f"{name}@{version} is not as it was published: its {INFO} was edited.",
                "Do not use it; restore the file, or publish the model again.",
            )
        return ModelPin(
            uri=store.uri,
            name=name,
            version=version,
            weights_sha256=info.weights_sha256,
            trained=info.trained,
            temperature=info.temperature,
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
    return ModelPin(
        uri=store.uri, name=info.name, version=sha[:12], weights_sha256=sha, trained=info.trained,
        temperature=info.temperature,
    )  # fmt: skip


def pin_model(registry: str, reference: str) -> ModelPin:
    """Resolve a model reference against the registry at a URI."""
    return Registry(open_store(registry)).resolve(reference)


def pin_to_score(registry: str, reference: str) -> tuple[ModelPin, BundleInfo]:
    """Resolve a reference to a model that files are to be scored with; BundleError if it needs more than files."""
    pin = pin_model(registry, reference)
    info = read_info(open_store(pin.uri))
    info.check_needs_no_gaze()
    return pin, info


def default_registry(given: str | os.PathLike[str] | None = None) -> str:
    """Return the URI of the registry that is given, else of $CXRGAZE_REGISTRY, else of ``./registry``."""
    return os.fspath(given) if given is not None else os.environ.get("CXRGAZE_REGISTRY") or "./registry"
