"""A real server on a socket whose clients say too much, too slowly, nothing, or do not read."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from cxrgaze_ray.http import connection
from cxrgaze_ray.http.connection import Connection, HeadLimits

LIMITS = HeadLimits(unheard_bytes=64 * 2**10, head_s=1.0, heads=5, reading_s=0.6, read_bytes=64 * 2**10)
HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: here\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Open = Callable[[], Coroutine[Any, Any, Streams]]


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", "replaced at once")
    monkeypatch.setattr(Connection, "limits", LIMITS)
    connection.install()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the length of the body, or with a great many bytes."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    answer = b"x" * 40_000_000 if scope["path"] == "/large" else str(size).encode()
    length = str(len(answer)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": answer})


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Open]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None, timeout_keep_alive=60))
    async with asyncio.timeout(30):
        running = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        clients: list[asyncio.StreamWriter] = []

        async def connect() -> Streams:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            clients.append(writer)
            return reader, writer

        yield connect
        for writer in clients:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        server.should_exit = server.force_exit = True
        await running


def tried(scenario: Callable[[Open], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with serving() as connect:
            await scenario(connect)

    asyncio.run(run())


async def said(reader: asyncio.StreamReader) -> tuple[int, Any]:
    """Return the code and the body of one answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    body = await reader.readexactly(int(length.split(b":")[1]))
    return int(head.split()[1]), json.loads(body)


async def pour(writer: asyncio.StreamWriter, piece: bytes) -> int:
    """Write until the server has enough; return how much that was."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 2**28:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
    return sent


def test_requests_pass_one_after_the_other_and_pauses_between_them_are_theirs() -> None:
    async def scenario(connect: Open) -> None:
        reader, writer = await connect()
        for size in (0, 7, 300_000):
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
            assert await said(reader) == (200, size)
            await asyncio.sleep(0.2)
        await asyncio.sleep(LIMITS.head_s)
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(8):  # in all longer than a head may take
            writer.write(b"4\r\nbody\r\n")
            await asyncio.sleep(LIMITS.head_s / 6)
        writer.write(b"0\r\nTrailer: of some use\r\n\r\n")
        assert await said(reader) == (200, 32)

    tried(scenario)


@pytest.mark.parametrize(
    ("begins", "piece"),
    [
        (HEAD, b"X-Many: of them\r\n" * 500),
        (HEAD + b"X-Long: ", b"x" * 10_000),
        (b"GET /", b"x" * 10_000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n", b"X-Trailer: of none\r\n" * 500),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n4;", b"x" * 10_000),
        (b"", b"\r\n" * 5_000),
    ],
    ids=["headers", "a header", "a path", "trailers", "an extension", "empty lines"],
)
def test_what_has_no_end_is_read_to_its_bound(begins: bytes, piece: bytes) -> None:
    async def scenario(connect: Open) -> None:
        _, writer = await connect()
        writer.write(begins)
        assert await pour(writer, piece) < 16 * 2**20  # what the system's buffers hold on both sides is on top

    tried(scenario)


def test_who_sends_too_long_a_head_reads_why() -> None:
    async def scenario(connect: Open) -> None:
        reader, writer = await connect()
        writer.write(HEAD + b"X-Long: " + b"x" * (LIMITS.unheard_bytes + 1))
        code, body = await said(reader)
        assert (code, body["reason"]) == (431, "headers_too_large")
        assert await reader.read() == b""

    tried(scenario)


def test_a_head_that_comes_too_slowly_is_ended_on_a_used_connection_too() -> None:
    async def scenario(connect: Open) -> None:
        for before in (b"", HEAD + b"Content-Length: 0\r\n\r\n"):
            reader, writer = await connect()
            if before:
                writer.write(before)
                assert await said(reader) == (200, 0)
            for one in HEAD[:6]:
                writer.write(bytes([one]))
                await asyncio.sleep(0.05)
            code, body = await said(reader)
            assert (code, body["reason"]) == (408, "too_slow")

    tried(scenario)


def test_who_says_nothing_is_hung_up_on() -> None:
    async def scenario(connect: Open) -> None:
        reader, _ = await connect()
        assert await reader.read() == b""

    tried(scenario)


def test_of_too_many_that_say_nothing_the_oldest_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "limits", replace(LIMITS, head_s=60.0))

    async def scenario(connect: Open) -> None:
        silent = [await connect() for _ in range(LIMITS.heads)]
        for _ in range(3):
            reader, writer = await connect()
            writer.write(HEAD + b"Content-Length: 2\r\n\r\nab")
            assert await said(reader) == (200, 2)
        # the three above are at no head any more; each put out one of the silent ones while it was
        gone = [reader for reader, _ in silent if reader.at_eof() or await ends(reader)]
        assert gone == [reader for reader, _ in silent[: len(gone)]]
        assert len(gone) >= 1

    tried(scenario)


async def ends(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 0.2) == b""
    except TimeoutError:
        return False


def test_an_answer_that_nobody_reads_is_given_up() -> None:
    async def scenario(connect: Open) -> None:
        reader, writer = await connect()
        writer.write(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        await asyncio.sleep(3 * LIMITS.reading_s)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(40_000_000)

    tried(scenario)


def test_who_reads_slowly_gets_all_of_it() -> None:
    async def scenario(connect: Open) -> None:
        reader, writer = await connect()
        writer.write(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n")
        got = 0
        while got < 40_000_000:
            got += len(await reader.read(2_000_000))
            await asyncio.sleep(0.02)

    tried(scenario)


def test_a_wish_for_websockets_is_a_request_like_others() -> None:
    async def scenario(connect: Open) -> None:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await said(reader))[0] == 200

    tried(scenario)
