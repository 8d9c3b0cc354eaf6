"""Tensors as safetensors with a hash of all that they hold: a store that lost some bytes is found out at reading."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, uint8

_SEAL = "sha256"
LENGTH_BYTES = 8
"""Size of the header's length, with which a safetensors file starts."""


def sealed(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> dict[str, str]:
    """Return a header with the hash of its own entries and of tensors, which are contiguous and on the CPU."""
    return {**header, _SEAL: _hash(tensors, header)}


def check_seal(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Check what was read against its hash; what an earlier version wrote has none.

    Raises
    ------
    SafetensorError
        If a byte is another one than was written.
    """
    told = dict(header)
    seal = told.pop(_SEAL, None)
    if seal is not None and seal != _hash(tensors, told):
        raise SafetensorError("the tensors are not those that were written")


def save_sealed(tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a safetensors file with a hash."""
    return save(dict(tensors), sealed(tensors, header or {}))


def load_sealed(data: bytes) -> dict[str, Tensor]:
    """Read tensors back.

    Raises
    ------
    SafetensorError
        If they are not whole, or not what was written.
    """
    tensors = load(data)
    check_seal(tensors, header_of(data))
    return tensors


def header_bytes(head: bytes) -> int:
    """Return the size of a file's beginning that `header_of` reads, from its first eight bytes."""
    return LENGTH_BYTES + int.from_bytes(head[:LENGTH_BYTES], "little")


def header_of(data: bytes) -> dict[str, str]:
    """Return the header's own entries, from a file's beginning; none if an earlier version wrote it.

    Raises
    ------
    SafetensorError
        If the beginning is not whole.
    """
    try:
        header: dict[str, Any] = json.loads(data[LENGTH_BYTES : header_bytes(data)])
    except ValueError as error:
        raise SafetensorError("the header is not whole") from error
    found: dict[str, str] = header.get("__metadata__", {})
    return found


def _hash(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    total = hashlib.sha256(json.dumps(sorted(header.items())).encode())
    for name in sorted(tensors):
        total.update(f"\0{name}\0{tensors[name].dtype}\0{tuple(tensors[name].shape)}\0".encode())
        total.update(tensors[name].reshape(-1).view(uint8).numpy().data)
    return total.hexdigest()
