"""Contradictions in a ledger: numbers, hashes, dates, and entries' statements about each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from cxrgaze_ray.registry.ledger.chain import Ledger
from cxrgaze_ray.registry.ledger.entries import MOVES, Entry
from cxrgaze_ray.registry.ledger.rules import is_version

RESTORE = "Restore the ledger from a backup, and find out who could write there."
_FILE = re.compile(r"(?:.*/)?(\d{8})\.json")


@dataclass(frozen=True)
class AuditFinding:
    """One thing that is wrong or, as a note, merely odd.

    Attributes
    ----------
    file
        Key of the file below the registry.
    what
        One sentence that says what is wrong or odd.
    mend
        Advice on what to do.
    note
        Whether the registry is sound all the same.
    """

    file: str
    what: str
    mend: str
    note: bool = False


@dataclass(frozen=True)
class Link:
    """One file of the ledger that can be read as an entry."""

    place: int
    """Number in the file's name; the entry itself may state another."""

    key: str
    entry: Entry
    sha256: str


def audit_ledger(ledger: Ledger, head: str | None = None) -> tuple[list[Link], list[AuditFinding]]:
    """Read all that is readable in a ledger, and name what is wrong; `head` is the hash of an entry it must hold."""
    links: list[Link] = []
    findings: list[AuditFinding] = []
    files = ledger.files(afresh=True)
    for key, file in files.items():
        if (match := _FILE.fullmatch(key)) is None:
            findings.append(AuditFinding(key, "This is not an entry of the ledger but a stray file.", "Remove it."))
        elif file.entry is None:
            findings.append(AuditFinding(key, "The entry can't be read: it was cut or edited.", RESTORE))
        else:
            links.append(Link(int(match[1]), key, file.entry, file.sha256))
    findings += _missing(ledger, files)
    for before, link in zip([None, *links], links, strict=False):
        findings += _place(link, before if before and before.place == link.place - 1 else None)
    if head is not None and head not in {link.sha256 for link in links}:
        what = f"No entry has the hash {head[:12]}: the ledger's tail was cut, or entries were rewritten."
        findings.append(AuditFinding(ledger.key(links[-1].place + 1 if links else 0), what, RESTORE))
    return links, [*findings, *_claims(links)]


def _missing(ledger: Ledger, keys: Iterable[str]) -> Iterator[AuditFinding]:
    numbers = {int(match[1]) for key in keys if (match := _FILE.fullmatch(key))}
    for number in sorted(set(range(max(numbers, default=-1))) - numbers):
        yield AuditFinding(ledger.key(number), f"Entry {number} is missing.", RESTORE)


def _place(link: Link, before: Link | None) -> Iterator[AuditFinding]:
    """Check an entry's own number, and that it follows the one before it."""
    entry, place = link.entry, link.place
    if entry.number != place:
        what = f"The file of entry {place} holds entry {entry.number}: entries were moved."
        yield AuditFinding(link.key, what, RESTORE)
    if place == 0 and entry.previous_sha256:
        yield AuditFinding(link.key, "The first entry follows another, which is gone.", RESTORE)
    if before is None:
        return
    if entry.previous_sha256 != before.sha256:
        what = f"Entry {place} was written after a different entry {place - 1}, which was edited or replaced."
        yield AuditFinding(before.key, what, RESTORE)
    if (now := _date(entry)) and (then := _date(before.entry)) and now < then:
        what = f"Entry {place} is dated {entry.at}, before entry {place - 1}: the writers' clocks disagree."
        yield AuditFinding(link.key, what, "Set the clocks; the order of the numbers stands.", note=True)


def _date(entry: Entry) -> datetime | None:
    try:
        date = datetime.fromisoformat(entry.at)
    except ValueError:
        return None
    return date if date.tzinfo else None


def _claims(links: list[Link]) -> Iterator[AuditFinding]:
    """Check that entries refer only to versions published before them."""
    published: dict[str | None, str] = {}
    for link in links:
        entry = link.entry
        if entry.action == "publish":
            if not is_version(entry.version):
                yield AuditFinding(link.key, "It publishes something that is not named as a version.", RESTORE)
            if entry.version in published:
                yield AuditFinding(link.key, f"It publishes {entry.version}, which was published before.", RESTORE)
            published.setdefault(entry.version, entry.weights_sha256)
            continue
        if entry.version is None and entry.action == "look":
            continue
        if entry.action in MOVES and not entry.alias:
            yield AuditFinding(link.key, f"It is a {entry.action} without an alias.", RESTORE)
        if entry.version not in published:
            about = f"{entry.alias} stand for {entry.version}" if entry.alias else f"a statement about {entry.version}"
            what = f"It makes {about}, which was not published before."
            yield AuditFinding(link.key, what, RESTORE)
        elif published[entry.version] != entry.weights_sha256:
            yield AuditFinding(link.key, f"It names other weights than those published as {entry.version}.", RESTORE)
