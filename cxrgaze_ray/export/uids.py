"""UIDs and file names that follow from a run and a row: a repeated export gives the same ones."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from pydicom.uid import UID

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}")


def make_uid(*parts: str) -> UID:
    """Hash parts into a UID of the UUID-derived root 2.25 (PS3.5 B.2), 128 bits of SHA-256, at most 44 characters."""
    number = int.from_bytes(hashlib.sha256("\0".join(("cxrgaze", *parts)).encode()).digest()[:16])
    # version and variant bits of a name-based UUID (RFC 9562, version 8)
    number = number & ~(0xF << 76) & ~(0x3 << 62) | 8 << 76 | 2 << 62
    return UID(f"2.25.{number}")


def file_name(row: dict[str, Any]) -> str:
    """Return a file name without its ending: the image_id, hashed where it is none.

    Parameters
    ----------
    row
        image_id, repeated_id, shard and position of a result row; a repeated id gets its row's place.
    """
    image_id = row["image_id"] or ""
    name = image_id if _NAME.fullmatch(image_id) else hashlib.sha256(image_id.encode()).hexdigest()[:32]
    return f"{name}-{row['shard']}-{row['position']}" if row["repeated_id"] or not image_id else name
