"""The contents of a ledger's entries, and what follows from a chain of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cxrgaze_ray.config import Record

ACCEPTED = "accepted"
"""Outcome of a gate that lets a version be promoted without a reason."""

MOVES = ("promote", "rollback")
"""Actions that set what an alias stands for."""


class Draft(Record):
    """Contents of an entry; the ledger adds its number."""

    action: Literal["publish", "look", "gate", "promote", "rollback"]
    version: str | None
    """The version that the entry is about; None for a look at weights that are not published yet."""

    weights_sha256: str
    alias: str | None = None
    reason: str = ""
    who: str = ""
    bundle_sha256: str | None = None
    """Hash of a publication's bundle.json, which holds metrics, temperature and profile."""

    stores: tuple[str, ...] = ()
    """Hashes of the stores whose test splits the weights were shown in a look."""

    outcome: str | None = None
    """Outcome of a gate: accepted, rejected or cannot_tell."""

    evidence: str | None = None
    """Key of a gate's report, below the model's folder."""

    evidence_sha256: str | None = None


class Entry(Draft):
    """One entry; those written by earlier versions lack what has a default."""

    number: int
    at: str
    """Time in UTC by the writer's clock; the order of entries is that of their numbers."""

    previous_sha256: str
    nonce: str
    """Identifies the writer of an entry when the store's answer is lost."""


@dataclass(frozen=True)
class Chain:
    """Entries that follow each other without a gap, and the hash of the last one's bytes, "" if there is none."""

    entries: tuple[Entry, ...] = ()
    head: str = ""

    def versions(self) -> list[str]:
        """Return the versions that were published, in their order."""
        return [entry.version for entry in self.entries if entry.action == "publish" and entry.version]

    def published(self, version: str) -> Entry | None:
        """Return the entry that published a version, or None."""
        mine = (entry for entry in self.entries if entry.action == "publish" and entry.version == version)
        return next(mine, None)

    def aliases(self) -> dict[str, str]:
        """Return what each alias stands for: its last promote or rollback entry."""
        moves = [entry for entry in self.entries if entry.action in MOVES]
        return {entry.alias: entry.version for entry in moves if entry.alias and entry.version}

    def trail(self, alias: str) -> list[str]:
        """Return the versions an alias stood for, the present one last, without those it was rolled back from."""
        trail: list[str] = []
        for entry in self.entries:
            if entry.alias != alias or entry.version is None:
                continue
            # promoting a version again, or two rollbacks at once in an old ledger, must not count twice
            if entry.action == "promote" and trail[-1:] != [entry.version]:
                trail.append(entry.version)
            while entry.action == "rollback" and trail and trail[-1] != entry.version:
                trail.pop()
        return trail

    def gate(self, version: str) -> Entry | None:
        """Return the last gate entry of a version, or None."""
        mine = [entry for entry in self.entries if entry.action == "gate" and entry.version == version]
        return mine[-1] if mine else None

    def lookers(self, store: str) -> set[str]:
        """Return the weights that a store's test split was shown to."""
        return {entry.weights_sha256 for entry in self.entries if entry.action == "look" and store in entry.stores}
