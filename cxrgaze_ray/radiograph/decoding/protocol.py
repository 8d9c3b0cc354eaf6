"""Messages between a decoder and its process: a JSON header and raw bytes, each with its length before it."""

from __future__ import annotations

import json
import struct
from typing import IO, Any

_LENGTHS = struct.Struct("<IQ")
_MAX_HEADER = 2**20


class ProtocolError(Exception):
    """What came is no message: memory of the other side is broken."""


def send(stream: IO[bytes], header: dict[str, Any], body: bytes | memoryview = b"") -> None:
    """Write one message."""
    text = json.dumps(header).encode()
    stream.write(_LENGTHS.pack(len(text), len(body)))
    stream.write(text)
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes], max_body: int | None = None) -> tuple[dict[str, Any], bytes]:
    """Read one message.

    Parameters
    ----------
    stream
        Where it comes from.
    max_body
        Longest body in bytes, where the other side is not to be trusted.

    Raises
    ------
    EOFError
        If the other side is gone.
    ProtocolError
        If what comes is no message.
    """
    header_length, body_length = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    if header_length > _MAX_HEADER or (max_body is not None and body_length > max_body):
        raise ProtocolError
    text = _exactly(stream, header_length)
    try:
        header = json.loads(text)
    except ValueError:
        raise ProtocolError from None
    if not isinstance(header, dict):
        raise ProtocolError
    return header, _exactly(stream, body_length)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
