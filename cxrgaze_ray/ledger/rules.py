"""Names, and when an alias may be moved."""

from __future__ import annotations

import re
from enum import Enum

from cxrgaze_ray.config import MODEL_NAME
from cxrgaze_ray.errors import PromotionConflict, RegistryError
from cxrgaze_ray.ledger.entries import ACCEPTED, Chain

NAME = re.compile(MODEL_NAME)
VERSION = re.compile(r"v0*([1-9]\d{0,6})")


class Unset(Enum):
    """Tells an argument that was not given from None."""

    UNSET = "unset"


UNSET = Unset.UNSET


def is_version(name: str | None) -> bool:
    """Say whether a name is a version's, as the registry writes it."""
    return name is not None and VERSION.fullmatch(name) is not None and normal_version(name) == name


def normal_version(version: str) -> str:
    """Bring v3 to v0003; RegistryError if it is no version."""
    if not (match := VERSION.fullmatch(version)):
        raise RegistryError(f"{version} is not the name of a version.", "Versions are v1, v2 and so on.")
    return version_name(int(match[1]))


def check_expected(name: str, alias: str, expected: str | Unset | None, chain: Chain) -> None:
    """Raise PromotionConflict if an alias stands elsewhere than where the caller saw it; None is no such alias."""
    stands = chain.aliases().get(alias)
    if isinstance(expected, Unset) or stands == (expected and normal_version(expected)):
        return
    raise PromotionConflict(
        f"{name}@{alias} stands for {stands or 'nothing'}, not for {expected or 'nothing'}: nothing was written.",
        f"Look again: cxrgaze models show {name}.",
    )


def check_gate(name: str, version: str, reason: str, chain: Chain) -> None:
    """Raise RegistryError if the gate did not accept a version, and nobody says why it is promoted all the same."""
    gate = chain.gate(version)
    if gate is None or gate.outcome == ACCEPTED or reason.strip():
        return
    raise RegistryError(
        f"The gate did not accept {name}@{version}: {(gate.outcome or 'no outcome').replace('_', ' ')}.",
        "To promote it all the same, say why with --reason.",
    )


def version_name(number: int) -> str:
    """Return v0003 for 3."""
    return f"v{number:04d}"


def checked_name(name: str) -> str:
    """Return a model's or alias's name; RegistryError if it is none."""
    if not NAME.fullmatch(name):
        raise RegistryError("A model name or alias is made of a-z, 0-9 and -, and begins with a letter or digit.")
    return name
