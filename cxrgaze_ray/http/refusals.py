"""Answers in JSON, and refusals among them: one sentence, and a reason code that programs can act on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import JSONResponse

MEANINGS = {
    "unauthorised": "The bearer token is missing or wrong.",
    "not_found": "There is no such path.",
    "method_not_allowed": "The path takes another method.",
    "http_error": "The request is not one that the service can read.",
    "bad_query": "A query parameter has none of its values.",
    "too_large": "The body or the picture is over its bound.",
    "headers_too_large": "The headers are over 64 KiB.",
    "too_slow": "The headers or the body came too slowly.",
    "too_many_requests": "This client asks too often, or guesses tokens; try again after Retry-After seconds.",
    "busy": "Too many requests are waiting; try again after Retry-After seconds.",
    "unavailable": "The process that had the request is gone; try again after Retry-After seconds.",
    "not_ready": "No model is loaded yet; try again after Retry-After seconds.",
    "bug": "A fault of the service; its log has the request's id.",
}
"""Reason codes that every application may refuse with, and what they mean."""

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


class Refused(Exception):
    """Ends a request with a refusal, from wherever in a route it is raised."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.code)
        self.reply = reply


def refuse(code: int, message: str, reason: str, retry_after_s: int | None = None) -> Reply:
    """Refuse with one sentence and a reason code; a 503 says when to try again, by default after `RETRY_AFTER_S`."""
    headers = {"WWW-Authenticate": "Bearer"} if code == 401 else {}
    wait = RETRY_AFTER_S if code == 503 and retry_after_s is None else retry_after_s
    if wait is not None:
        headers["Retry-After"] = str(wait)
    return Reply(code, {"error": message, "reason": str(reason)}, headers)
