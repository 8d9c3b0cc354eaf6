"""What both HTTP applications ask of a request: its bearer token, and a body that is not too large."""

from __future__ import annotations

import hmac

from fastapi import Request


def authorised(request: Request, token: str) -> bool:
    """Say whether a request carries the bearer token; compared in a time that tells nothing of it.

    The scheme's name may be in any case (RFC 9110, 11.1).
    """
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.lstrip(" ").encode("latin-1"), token.encode())


async def read_body(request: Request, limit: int) -> bytes | None:
    """Read the body, never more than `limit` bytes of it; None if it is larger."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            return None
    return bytes(body)
