"""Who an image is of, as rows may say it: kept as the archive gives it, or as keyed hashes.

A keyed hash of a patient is the same in every archive, run and store made with the same key, and says nothing without
it. Raw identifiers never leave this module's callers: not in rows, logs, metrics, errors or file names.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal

from cxrgaze_ray.errors import UserError

KEY_VARIABLE = "CXRGAZE_PSEUDONYMS"
"""Environment variable that names the key file where no option does."""

KEPT = "keep"
"""`Identities.name` of identifiers that stay as they are."""

_BYTES = 32
_HEX = 32

Kind = Literal["patient", "study", "image"]


@dataclass(frozen=True)
class Identities:
    """How identifiers become those of rows.

    Attributes
    ----------
    key
        Secret of the keyed hashes; None keeps identifiers as they are.
    """

    key: bytes | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """``keep``, or ``keyed-`` and eight digits that tell keys apart without telling the key."""
        if self.key is None:
            return KEPT
        return f"keyed-{hashlib.sha256(b'cxrgaze key:' + self.key).hexdigest()[:8]}"

    def of(self, kind: Kind, raw: str | None) -> str | None:
        """Return the identifier that rows carry for a raw one.

        Parameters
        ----------
        kind
            Keeps a study and a patient of the same number apart.
        raw
            As the archive's tables or the file's tags give it; white space around it is dropped, nothing stays None.

        Returns
        -------
        str or None
            The same text, or HMAC-SHA256 of it (RFC 2104), 32 hex digits.
        """
        text = (raw or "").strip()
        if not text or self.key is None:
            return text or None
        return hmac.new(self.key, f"{kind}:{text}".encode(), hashlib.sha256).hexdigest()[:_HEX]


def identities_named(name: str, choose: Callable[[], Identities]) -> Identities:
    """Return the identities that a listing, run or store was made with.

    Parameters
    ----------
    name
        `Identities.name` of them.
    choose
        Opens the key; not asked where identifiers are kept.

    Raises
    ------
    UserError
        If the key is another one.
    """
    if name == Identities().name:
        return Identities()
    identities = choose()
    if identities.name != name:
        raise UserError("This was begun with another pseudonym key.", "Name that key: --pseudonymise KEYFILE.")
    return identities


def default_key_file() -> Path:
    """Return where the key lies if no option says: $CXRGAZE_PSEUDONYMS, else below the user's configuration."""
    if named := os.environ.get(KEY_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "cxrgaze" / "pseudonyms.key"


def open_key(path: Path | None = None) -> Identities:
    """Read the key file, or make it on first use, readable by its owner only.

    Raises
    ------
    UserError
        If the file is no key, or can't be read or made.
    """
    path = path or default_key_file()
    try:
        if not path.exists():
            _make(path)
        return _parse(path)
    except OSError as error:
        raise UserError(
            f"The pseudonym key {path} can't be used: {error.strerror}.", "Name another: --pseudonymise KEYFILE."
        ) from error


def _make(path: Path) -> None:
    """Write a key beside its place, then link it there: nobody sees half a key, and of several makers one wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.") as file:  # made readable by its owner only
        file.write(secrets.token_hex(_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(file.name)


def _parse(path: Path) -> Identities:
    text = path.read_bytes()
    if not text.strip():
        raise UserError(
            f"The pseudonym key {path} is empty.",
            "Restore it if it ever held a key; else remove it, and it is made.",
        )
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) < _BYTES:
        raise UserError(
            f"{path} is no pseudonym key: {2 * _BYTES} hexadecimal digits.",
            "Name another file, which is made if absent.",
        )
    if path.stat().st_mode & 0o077:
        raise UserError(f"Others can read the pseudonym key {path}.", f"Protect it: chmod 600 {path}.")
    return Identities(key)
