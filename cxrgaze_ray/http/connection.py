"""A client's connection to Ray Serve's HTTP proxy: heads of requests bounded in size, time and number, answers in time.

Serve starts uvicorn as it is, and uvicorn reads a head, or the trailers of a body, however long it is and however
slowly it comes, keeps a connection on which nothing was ever said, and waits for ever for a client to read its answer.
`install` makes this class what uvicorn takes; bodies are bounded by what comes after it, `http.proxy`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cxrgaze_ray.http.middleware import count_request
from cxrgaze_ray.http.refusals import Reply, refuse


@dataclass(frozen=True)
class HeadLimits:
    """The limits of connections.

    Attributes
    ----------
    unheard_bytes
        Most bytes that may come without a head being complete, or without a byte of a body: of a request line and
        headers, of trailers, of a chunk's extensions. What came with the last of them, 256 KiB at most, is on top.
    head_s
        Longest time from the first byte of a head to its last; a new connection has as long for both.
    heads
        Connections that may be at a head, or wait for their first; one more ends the one that has been longest.
    reading_s, read_bytes
        A client that leaves its answer unread has so many seconds for each so many bytes, and for the last of them.
    """

    unheard_bytes: int = 64 * 2**10
    head_s: float = 20.0
    heads: int = 1024
    reading_s: float = 30.0
    read_bytes: int = 64 * 2**10


LONG_HEADERS = refuse(431, "The headers are too large.", "headers_too_large")
_SLOW = refuse(408, "The headers came too slowly.", "too_slow")
_CROWDED = refuse(503, "The headers came slowly, and others needed the place; try again.", "busy")


def install() -> None:
    """Have the servers that uvicorn makes from now on, in this process, talk to their clients through `Connection`."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{Connection.__name__}"


class Connection(HttpToolsProtocol):
    """uvicorn's connection, within `limits`, and without WebSockets: no application here speaks them."""

    limits: ClassVar[HeadLimits] = HeadLimits()
    _at_a_head: ClassVar[dict[Connection, None]] = {}
    """Connections of this process that wait for a head, in the order in which they began to."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.ws_protocol_class = None
        self._unheard = 0
        self._patience_to_hear: asyncio.TimerHandle | None = None
        self._patience_to_write: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_awaiting_head()
        self._stop_awaiting_reader()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Have the parser read what came, and end a client that says too much without saying anything."""
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()
        self._unheard += len(data)
        super().data_received(data)
        if self._unheard > self.limits.unheard_bytes:
            self._turn_away(LONG_HEADERS)

    def on_headers_complete(self) -> None:
        """Note that the head is complete."""
        self._unheard = 0
        self._stop_awaiting_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that some of a body came."""
        self._unheard = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        self._unheard = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Give the client some time to read the end of its answer, if that was the last of the connection."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_reader()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection on which nothing was said for a while."""
        super().timeout_keep_alive_handler()
        self._await_reader()

    def pause_writing(self) -> None:
        """Wait for the client to read, not for ever."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """Go on writing."""
        self._stop_awaiting_reader()
        super().resume_writing()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing of a wish for WebSockets: clients would fill the log."""

    def _await_head(self) -> None:
        if self._patience_to_hear is not None:
            return
        self._patience_to_hear = self.loop.call_later(self.limits.head_s, self._turn_away, _SLOW)
        self._at_a_head[self] = None
        if len(self._at_a_head) > self.limits.heads:
            next(iter(self._at_a_head))._turn_away(_CROWDED)

    def _stop_awaiting_head(self) -> None:
        if self._patience_to_hear is not None:
            self._patience_to_hear.cancel()
            self._patience_to_hear = None
        self._at_a_head.pop(self, None)

    def _turn_away(self, refusal: Reply) -> None:
        """Close the connection; say why, unless another answer is under way, or nothing was asked."""
        self._stop_awaiting_head()
        if self.transport.is_closing():
            return
        if self._unheard and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(_spelt(refusal))
            count_request("", refusal.code, 0.0)
        self.transport.close()
        self._await_reader()

    def _await_reader(self) -> None:
        """End the connection if what waits to be written is not read: `close` alone waits for that for ever."""
        if self._patience_to_write is None:
            left = self.transport.get_write_buffer_size()
            self._patience_to_write = self.loop.call_later(self.limits.reading_s, self._look_at_reader, left)

    def _look_at_reader(self, left_before: int) -> None:
        self._patience_to_write = None
        if self.transport.get_write_buffer_size() > left_before - self.limits.read_bytes:
            self.transport.abort()
        else:
            self._await_reader()

    def _stop_awaiting_reader(self) -> None:
        if self._patience_to_write is not None:
            self._patience_to_write.cancel()
            self._patience_to_write = None


def _spelt(refusal: Reply) -> bytes:
    """Return a refusal as HTTP/1.1."""
    response = refusal.response()
    headers = [*response.raw_headers, (b"connection", b"close")]
    lines = [b"HTTP/1.1 %d Refused" % refusal.code, *(b"%s: %s" % header for header in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body)
