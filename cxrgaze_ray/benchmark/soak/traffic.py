"""Clients on an event loop of their own: some that always ask, one that sends what is malformed, and bursts."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from cxrgaze_ray.benchmark.soak.requests import Kind

T = TypeVar("T")

BROKEN = -1
"""Code of a request whose connection broke before its answer."""

GAVE_UP = -2
"""Code of a request whose client lost patience and hung up."""

_PATIENCE_S = 120.0
_BETWEEN_MALFORMED_S = 0.2
_VERSION = re.compile(rb'"version": ?"(v\d+)"')
_REASON = re.compile(rb'"reason": ?"(\w+)"')


@dataclass(frozen=True)
class Answer:
    """What a client got.

    Attributes
    ----------
    began, ended
        By the monotonic clock, in seconds.
    kind
        The request.
    code
        Status; see also `BROKEN` and `GAVE_UP`.
    reason
        The refusal's reason, empty where there is none.
    retry_after
        Whether it says when to come back.
    version
        The model's, of a picture that was scored.
    """

    began: float
    ended: float
    kind: Kind
    code: int
    reason: str = ""
    retry_after: float | None = None
    version: str = ""

    @property
    def seconds(self) -> float:
        """From the first byte sent to the last one received."""
        return self.ended - self.began

    @property
    def as_promised(self) -> bool:
        """Whether it is what a service that is well answers."""
        return (self.code, self.reason) == (self.kind.code, self.kind.reason)

    @property
    def gave_up(self) -> bool:
        """Whether its client lost patience."""
        return self.code == GAVE_UP

    @property
    def told_to_come_back(self) -> bool:
        """Whether it is a 503 that says when to try again."""
        return self.code == 503 and bool(self.retry_after) and bool(self.reason)


class _Connection:
    """A connection to the service, opened when it is needed and kept while the service keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, kind: Kind, patience_s: float = _PATIENCE_S) -> Answer:
        """Send a request and return its answer, whatever becomes of it."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(patience_s):
                code, headers, body = await self._exchange(kind)
        except TimeoutError:
            await self.close()
            return Answer(began, time.monotonic(), kind, GAVE_UP)
        except (OSError, EOFError, ValueError, LookupError, asyncio.LimitOverrunError):  # or no answer of HTTP
            await self.close()
            return Answer(began, time.monotonic(), kind, BROKEN)
        reason, version = _REASON.search(body), _VERSION.search(body)
        return Answer(
            began, time.monotonic(), kind, code,
            reason=reason[1].decode() if code >= 400 and reason else "",
            retry_after=float(headers["retry-after"]) if "retry-after" in headers else None,
            version=version[1].decode() if code == 200 and version else "",
        )  # fmt: skip

    async def _exchange(self, kind: Kind) -> tuple[int, dict[str, str], bytes]:
        if self._open is None:
            self._open = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._open
        writer.write(kind.data)
        if kind.code == 0:
            await writer.drain()
            await self.close()
            return 0, {}, b""
        sending = asyncio.ensure_future(writer.drain())  # a refusal may come before all is sent
        try:
            status = (await reader.readuntil(b"\r\n")).split()
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        finally:
            sending.cancel()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        # a body that was declared and not sent would be taken from the next request
        if headers.get("connection") == "close" or not kind.code == int(status[1]) == 200:
            await self.close()
        return int(status[1]), headers, body

    async def close(self) -> None:
        """Close it; the next request opens another."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


class Traffic:
    """Requests that keep coming while a block runs.

    Parameters
    ----------
    port
        Of the service on this machine.
    sound, malformed
        What clients post in turn, and what one more client sends.
    clients
        Clients of the sound kind; each asks again once it is answered, or when Retry-After says.

    Attributes
    ----------
    answers
        All so far.
    """

    def __init__(self, port: int, sound: Sequence[Kind], malformed: Sequence[Kind], clients: int) -> None:
        self._port, self._sound, self._malformed, self._clients = port, sound, malformed, clients
        self.answers: list[Answer] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="soak-traffic", daemon=True)
        self._stopping = False

    def __enter__(self) -> Self:
        self._thread.start()
        self._running = [self._start(self._keep_asking(number)) for number in range(self._clients)]
        self._running.append(self._start(self._keep_annoying()))
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        for one in self._running:
            one.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start_burst(self, kind: Kind, count: int, patience_s: float) -> Future[list[Answer]]:
        """Have so many clients send a request at once, each on a connection of its own.

        Parameters
        ----------
        kind, count
            What is sent, and by how many.
        patience_s
            Seconds after which a client hangs up.
        """
        return self._start(self._burst(kind, count, patience_s))

    def ask(self, kind: Kind, patience_s: float = _PATIENCE_S) -> Answer:
        """Send one request on a connection of its own."""
        return self._start(self._once(kind, patience_s)).result()

    def _start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _keep_asking(self, number: int) -> None:
        connection = _Connection(self._port)
        for kind in itertools.islice(itertools.cycle(self._sound), number, None):
            if self._stopping:
                break
            answer = await connection.ask(kind)
            self.answers.append(answer)
            if answer.code != kind.code:
                await self._pause(answer.retry_after or _BETWEEN_MALFORMED_S)
        await connection.close()

    async def _keep_annoying(self) -> None:
        connection = _Connection(self._port)
        for kind in itertools.cycle(self._malformed):
            if self._stopping:
                break
            self.answers.append(await connection.ask(kind))
            await self._pause(_BETWEEN_MALFORMED_S)
        await connection.close()

    async def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._stopping:
            await asyncio.sleep(min(0.2, seconds))

    async def _burst(self, kind: Kind, count: int, patience_s: float) -> list[Answer]:
        return list(await asyncio.gather(*(self._once(kind, patience_s) for _ in range(count))))

    async def _once(self, kind: Kind, patience_s: float) -> Answer:
        connection = _Connection(self._port)
        try:
            return await connection.ask(kind, patience_s)
        finally:
            await connection.close()
