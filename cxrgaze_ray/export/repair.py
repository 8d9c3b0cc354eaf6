"""Values of a source's tags, made valid for a new object: repaired where that is safe, else left out.

An identifier that is too long is left out, never cut: cut, it might be somebody else's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime
from functools import partial

Repair = Callable[[str], str | None]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_UNDECODED = "\ufffd"
_TIME = re.compile(r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d|60)(?:\.(\d{1,6}))?)?)?")
_AGE = re.compile(r"\d{3}[DWMY]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_ZONE = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")


def clean(value: str) -> str | None:
    """Return text of one line; None if nothing is left, or its bytes were not of its character set."""
    text = " ".join(_CONTROL.sub(" ", value.replace("\\", " ")).split())
    return None if _UNDECODED in text else text or None


def identifier(value: str, longest: int = 64) -> str | None:
    """Return an identifier (LO or SH) that fits; None if it is too long."""
    text = clean(value)
    return text if text and len(text) <= longest else None


def description(value: str) -> str | None:
    """Return a description (LO), cut to 64 characters."""
    text = clean(value)
    return text[:64].strip() or None if text else None


def person(value: str) -> str | None:
    """Return a person's name (PN, PS3.5 6.2.1): three groups of five components, each group cut to 64 characters."""
    text = clean(value)
    if text is None:
        return None
    groups = ["^".join(group.split("^")[:5])[:64].rstrip(" ") for group in text.split("=")[:3]]
    return "=".join(groups).rstrip("=") if any(group.strip("^ ") for group in groups) else None


def day(value: str) -> str | None:
    """Return a date (DA) as YYYYMMDD; 1999.12.31 and 1999-12-31 are read too."""
    text = re.sub(r"[.\-/]", "", value.strip())
    with suppress(ValueError):
        return f"{date(int(text[:4]), int(text[4:6]), int(text[6:])):%Y%m%d}" if re.fullmatch(r"\d{8}", text) else None
    return None


def time(value: str) -> str | None:
    """Return a time (TM) as HHMMSS.FFFFFF; 12:30:59 is read too."""
    text = value.strip().replace(":", "")
    return text if _TIME.fullmatch(text) else None


def age(value: str) -> str | None:
    """Return an age (AS) such as 065Y."""
    text = value.strip().upper()
    return text if _AGE.fullmatch(text) else None


def number(value: str) -> str | None:
    """Return a decimal (DS) of at most 16 characters."""
    text = value.strip()
    return text if len(text) <= 16 and _NUMBER.fullmatch(text) else None


def one_of(values: tuple[str, ...], value: str) -> str | None:
    """Return a code string of a closed list."""
    text = value.strip().upper()
    return text if text in values else None


def uid(value: str) -> str | None:
    """Return a UID (PS3.5 9.1)."""
    text = value.strip(" \0")
    return text if len(text) <= 64 and _UID.fullmatch(text) else None


def zone(value: str) -> str | None:
    """Return an offset from UTC such as +0200."""
    text = value.strip()
    with suppress(ValueError):
        datetime.strptime(text, "%z")
        return text if _ZONE.fullmatch(text) else None
    return None


sex: Repair = partial(one_of, ("M", "F", "O"))
chest: Repair = partial(one_of, ("CHEST", "THORAX"))
side: Repair = partial(one_of, ("R", "L"))
yes_no: Repair = partial(one_of, ("YES", "NO"))
short_identifier: Repair = partial(identifier, longest=16)
