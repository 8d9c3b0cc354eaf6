"""Prove that a model's ledger and bundles are as they were written, or name those that are not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from cxrgaze_ray.errors import BundleError, RegistryError, StoreNotFound, UserError
from cxrgaze_ray.models.bundle import INFO, WEIGHTS, BundleInfo, read_hashed_info
from cxrgaze_ray.registry.ledger import Chain, Entry
from cxrgaze_ray.registry.ledger.audit import RESTORE, AuditFinding, Link, audit_ledger
from cxrgaze_ray.registry.ledger.rules import is_version
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.storage import Store

_HASH = re.compile(r"[0-9a-f]{64}")
_UNUSABLE = "Do not use this version; restore the file from a backup, or publish the model again."
_JUDGE_AGAIN = "Restore it from a backup, or have the gate judge again."


def verify_registry(
    registry: Registry,
    name: str,
    head: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[AuditFinding]:
    """Check a model's ledger, its bundles and the evidence of its gates against each other.

    Every entry follows the one before by number and hash; every published bundle is what its entry says, by the hashes
    of bundle.json and of the weights; aliases stand for published versions; the ledger's heads that bundles carry are
    in the ledger.

    Parameters
    ----------
    registry
        Registry that holds the model.
    name
        Name of the model.
    head
        Hash of an entry that was once the last one, kept elsewhere, as in a model card. It must be in the ledger.
    on_progress
        Called with the number of bundles checked and the number of all.

    Returns
    -------
    list of AuditFinding
        What was found; the model is sound if all findings are notes.

    Raises
    ------
    RegistryError
        If there is no such model, or `head` is not a hash.
    EnvironmentFault
        If the store can't be read: that proves nothing.
    """
    if head is not None and not _HASH.fullmatch(head):
        raise RegistryError("A ledger's head is 64 hexadecimal digits.", f"See `cxrgaze models show {name}`.")
    versions = registry.versions(name)  # read before the ledger: a version published meanwhile has its entry
    links, findings = audit_ledger(registry.ledger(name), head)
    if not links and not versions:
        raise RegistryError(f"There is no model {name} in {registry.store.uri}.", "See `cxrgaze models list`.")
    findings += _evidence(registry.store, name, links)
    findings += _bundles(registry, name, links, versions, on_progress)
    return findings


def _evidence(store: Store, name: str, links: list[Link]) -> Iterator[AuditFinding]:
    """Check the reports that gate entries name."""
    for entry in (link.entry for link in links if link.entry.evidence):
        key, report = f"{name}/{entry.evidence}", f"The gate's report on {entry.version} (entry {entry.number})"
        try:
            sha256 = _hash(store, key)
        except UserError:
            yield AuditFinding(key, f"{report} is missing.", _JUDGE_AGAIN)
            continue
        if sha256 != entry.evidence_sha256:
            yield AuditFinding(key, f"{report} was edited.", _JUDGE_AGAIN)


def _hash(store: Store, key: str) -> str:
    digest = hashlib.sha256()
    for block in store.stream(key):
        digest.update(block)
    return digest.hexdigest()


def _bundles(
    registry: Registry,
    name: str,
    links: list[Link],
    folders: Iterable[str],
    on_progress: Callable[[int, int], None],
) -> Iterator[AuditFinding]:
    chain = Chain(tuple(link.entry for link in links))
    published = {entry.version for entry in chain.entries if entry.action == "publish" and is_version(entry.version)}
    versions = sorted({*filter(None, published), *folders})
    for done, version in enumerate(versions, 1):
        folder, entry = f"{name}/versions/{version}", chain.published(version)
        store = registry.store.child(folder)
        if entry is None:
            yield from _unpublished(store, folder, links)
        else:
            yield from _bundle(store, folder, entry, links)
        on_progress(done, len(versions))


def _unpublished(store: Store, folder: str, links: list[Link]) -> Iterator[AuditFinding]:
    """Judge a version folder without an entry."""
    key = f"{folder}/{INFO}"
    if not store.exists(INFO):
        what = "A version was begun and not published: only its number is taken."
        yield AuditFinding(f"{folder}/", what, "Nothing needs to be done.", note=True)
        return
    yield AuditFinding(
        key,
        "No entry publishes this bundle: its entry was removed, or its publication was interrupted or goes on.",
        f"Look again when nobody publishes; remove {folder} if publication was interrupted, else restore the ledger.",
    )
    with suppress(BundleError):
        yield from _carried_head(key, read_hashed_info(store)[0], links)


def _bundle(store: Store, folder: str, entry: Entry, links: list[Link]) -> Iterator[AuditFinding]:
    """Compare a bundle with the entry that published it."""
    key = f"{folder}/{INFO}"
    try:
        info, sha256 = read_hashed_info(store)
    except BundleError:
        yield AuditFinding(key, f"{entry.version} was published, but its {INFO} is gone or can't be read.", _UNUSABLE)
        return
    if entry.bundle_sha256 not in (None, sha256):
        yield AuditFinding(key, f"{INFO} was edited after {entry.version} was published.", _UNUSABLE)
    if info.weights_sha256 != entry.weights_sha256:
        yield AuditFinding(key, f"It names other weights than those published as {entry.version}.", _UNUSABLE)
    try:
        weights = _hash(store, WEIGHTS)
    except StoreNotFound:
        yield AuditFinding(f"{folder}/{WEIGHTS}", f"The weights of {entry.version} are gone.", _UNUSABLE)
    else:
        if weights != entry.weights_sha256:
            what = f"The weights of {entry.version} are not those that were published."
            yield AuditFinding(f"{folder}/{WEIGHTS}", what, _UNUSABLE)
    yield from _carried_head(key, info, [link for link in links if link.entry.number < entry.number])


def _carried_head(key: str, info: BundleInfo, before: list[Link]) -> Iterator[AuditFinding]:
    """Look for the ledger's head that a bundle carries among the entries before it."""
    if info.ledger_head and info.ledger_head not in {link.sha256 for link in before}:
        head = info.ledger_head[:12]
        what = f"It was published after entry {head}, which the ledger lacks before it; it was cut or rewritten."
        yield AuditFinding(key, what, RESTORE)
