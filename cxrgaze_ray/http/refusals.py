"""Answers in JSON, and refusals among them: one sentence, and a reason code that programs can act on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import JSONResponse

RETRY_AFTER_S = 2
"""Seconds after which a client that got a 503 may try again."""


@dataclass(frozen=True)
class Reply:
    """An answer: status code, body as JSON, headers."""

    code: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> JSONResponse:
        """Return what a route or an ASGI application sends."""
        return JSONResponse(self.body, self.code, self.headers)


def refuse(code: int, message: str, reason: str, retry_after_s: int | None = None) -> Reply:
    """Refuse with one sentence and a reason code; a 503 says when to try again, by default after `RETRY_AFTER_S`."""
    headers = {"WWW-Authenticate": "Bearer"} if code == 401 else {}
    wait = RETRY_AFTER_S if code == 503 and retry_after_s is None else retry_after_s
    if wait is not None:
        headers["Retry-After"] = str(wait)
    return Reply(code, {"error": message, "reason": str(reason)}, headers)
