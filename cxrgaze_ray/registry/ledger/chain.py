"""Reading a ledger and appending to it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from cxrgaze_ray.errors import PromotionConflict, RegistryError
from cxrgaze_ray.registry.ledger.entries import MOVES, Chain, Draft, Entry
from cxrgaze_ray.storage import Store
from cxrgaze_ray.storage.read_ahead import read_ahead


@dataclass(frozen=True)
class LedgerFile:
    """A file of the ledger as it was when it was read; `entry` is None if it is not an entry."""

    etag: str
    sha256: str
    entry: Entry | None


class Ledger:
    """Reads and appends; ``<name>/ledger/00000012.json`` under a registry's store.

    Entries never change, so each is read once: later reads list the files, and read those that are new or have another
    etag. A search for tampering trusts no etag, and reads everything `afresh`.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._known: dict[str, LedgerFile] = {}

    def files(self, *, afresh: bool = False) -> dict[str, LedgerFile]:
        """Return all files of the ledger by their keys, in order, entries or not; those that are gone are forgotten."""
        before = {} if afresh else self._known
        if not before and self._name not in self._store.folders():
            return {}
        listed = list(self._store.list(f"{self._name}/ledger/"))
        fresh = [one.key for one in listed if one.key not in before or before[one.key].etag != one.etag]
        known = before | dict(zip(fresh, read_ahead(self._read_file, fresh), strict=True))
        self._known = {one.key: known[one.key] for one in listed}
        return self._known

    def key(self, number: int) -> str:
        """Return the key of an entry."""
        return f"{self._name}/ledger/{number:08d}.json"

    def read(self) -> Chain:
        """Read new entries, and check that all of them form a chain without gaps.

        Raises
        ------
        RegistryError
            If an entry is missing, malformed, or was changed after it was written.
        """
        entries: list[Entry] = []
        head = ""
        for number, (key, file) in enumerate(self.files().items()):
            entry = file.entry
            if entry is None or key != self.key(number) or entry.number != number or entry.previous_sha256 != head:
                raise self._broken(number)
            head = file.sha256
            entries.append(entry)
        return Chain(tuple(entries), head)

    def append(self, seen: Chain, draft: Draft, allow: Callable[[Chain], bool] = lambda _: True) -> Chain | None:
        """Write the next entry; whoever loses the race for a number takes the next one, unless both move one alias.

        Parameters
        ----------
        seen
            The chain on which the draft was decided.
        draft
            The entry to write.
        allow
            Called before each try with the chain as it is by then: raises to refuse, or returns False if there is
            nothing left to write.

        Returns
        -------
        Chain or None
            The chain that ends with the entry, or None if `allow` said that it need not be written.

        Raises
        ------
        PromotionConflict
            If the draft moves an alias that somebody else moved after `seen`; nothing is written.
        """
        # the nonce makes our entry unlike an equal one of somebody else: `_write` tells by its bytes whose entry stands
        chain, nonce = seen, uuid.uuid4().hex
        while allow(chain):
            entry = Entry(
                **draft.model_dump(),
                number=len(chain.entries),
                at=datetime.now(UTC).isoformat(timespec="seconds"),
                previous_sha256=chain.head,
                nonce=nonce,
            )
            data = entry.model_dump_json(indent=2).encode()
            if self._write(self.key(entry.number), data):
                return Chain((*chain.entries, entry), hashlib.sha256(data).hexdigest())
            chain = self.read()
            self._refuse_moved(draft, chain.entries[len(seen.entries) :])
        return None

    def _read_file(self, key: str) -> LedgerFile:
        data, info = self._store.fetch(key)
        try:
            entry = Entry.model_validate_json(data)
        except ValidationError:
            entry = None
        return LedgerFile(info.etag, hashlib.sha256(data).hexdigest(), entry)

    def _write(self, key: str, data: bytes) -> bool:
        """Put an entry; one that exists already is ours if an earlier put succeeded and its answer was lost."""
        return self._store.put_if_absent(key, data) or self._store.get(key) == data

    def _refuse_moved(self, draft: Draft, later: tuple[Entry, ...]) -> None:
        if draft.action not in MOVES:
            return
        for entry in reversed(later):
            if entry.action in MOVES and entry.alias == draft.alias:
                raise PromotionConflict(
                    f"{self._name}@{entry.alias} was moved to {entry.version} just now by {entry.who or 'somebody'}: "
                    "nothing was written.",
                    f"Look again: cxrgaze models show {self._name}.",
                )

    def _broken(self, number: int) -> RegistryError:
        return RegistryError(
            f"The ledger of {self._name} is broken at entry {number}: it was changed, or an entry is missing.",
            f"See `cxrgaze models verify {self._name}`. Restore it from a backup; bundles themselves can still be used "
            "by their URI.",
        )
