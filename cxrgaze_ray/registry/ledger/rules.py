"""Names, and when an alias may be moved."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum

from cxrgaze_ray.config import MODEL_NAME
from cxrgaze_ray.errors import PromotionConflict, RegistryError
from cxrgaze_ray.registry.ledger.entries import ACCEPTED, Chain

NAME = re.compile(MODEL_NAME)
VERSION = re.compile(r"v0*([1-9]\d{0,6})")


class Unset(Enum):
    """Tells an argument that was not given from None."""

    UNSET = "unset"


UNSET = Unset.UNSET


def name_and_version(reference: str) -> tuple[str, str | None]:
    """Take NAME[@VERSION] or NAME[@ALIAS] apart, None if only a name is there; RegistryError if it is no name."""
    name, _, at = reference.partition("@")
    return checked_name(name), at or None


def is_version(name: str | None) -> bool:
    """Return whether a name is a version's, as the registry writes it."""
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


def skipped(
    name: str, alias: str, version: str | None, chain: Chain, *, trained: bool, is_trained: Callable[[str], bool]
) -> str:
    """Say in one sentence what moving an alias skips: the gate's verdict, or that less is known than of what stands.

    Parameters
    ----------
    name, alias
        Name of the model, and which of its aliases is moved.
    version
        Version to be promoted; None while it is yet to be published.
    chain
        The ledger as it is.
    trained
        Whether the version's weights are.
    is_trained
        Says so of the version that the alias stands for.

    Returns
    -------
    str
        "" if nothing is skipped: the gate accepted it, nothing stands there, or no more is known of what does.
    """
    gate, stands = chain.gate(version) if version else None, chain.aliases().get(alias)
    what = f"{name}@{version}" if version else f"A new version of {name}"
    if gate is not None and gate.outcome != ACCEPTED:
        return f"The gate did not accept {what}: {(gate.outcome or 'no outcome').replace('_', ' ')}."
    if gate is not None or stands is None:
        return ""
    lacks = "was judged by no gate" if trained else "is untrained"
    if chain.gate(stands) is not None:
        return f"{what} {lacks}, and takes the place of {stands}, which a gate judged."
    if not trained and is_trained(stands):
        return f"{what} {lacks}, and takes the place of {stands}, which is trained."
    return ""


def check_reason(skips: str, reason: str, instead: str = "") -> None:
    """Raise RegistryError if something is skipped, and nobody says why; `instead` is another way out."""
    if skips and not reason.strip():
        raise RegistryError(skips, f"To promote it all the same, say why with --reason.{instead and f' {instead}'}")


def version_name(number: int) -> str:
    """Return v0003 for 3."""
    return f"v{number:04d}"


def version_number(version: str) -> int:
    """Return 3 for v0003; 0 for what is no version, such as the hash that stands for a bundle outside a registry."""
    match = VERSION.fullmatch(version)
    return int(match[1]) if match else 0


def checked_name(name: str) -> str:
    """Return a model's or alias's name; RegistryError if it is none."""
    if not NAME.fullmatch(name):
        raise RegistryError("A model name or alias is made of a-z, 0-9 and -, and begins with a letter or digit.")
    return name
