"""What stands before the applications: slow and large bodies, long headers, crowds, and what Serve says in text."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from cxrgaze_ray import telemetry
from cxrgaze_ray.cluster.connection import PROXY_MIDDLEWARES
from cxrgaze_ray.http.proxy import MARK, RATE_VARIABLE, Door, ProxyLimits, middlewares
from cxrgaze_ray.telemetry.table import REQUESTS

LIMITS = ProxyLimits(requests=2, header_bytes=1000, deadline_s=30.0, grace_s=0.2, floor_bytes_s=1e6)


class Reply:
    """What a client got."""

    def __init__(self) -> None:
        self.code, self.content = 0, b""
        self.headers: dict[str, str] = {}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            assert not self.code, "answered twice"
            self.code = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            self.content += message["body"]

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.content)
        return found


Wait = Callable[[], Awaitable[None]]


async def ask(
    door: Door, *parts: bytes | Wait, path: str = "/v1/predict", header: bytes = b"", client: str = "127.0.0.1"
) -> Reply:
    """Send parts, with waits between; then hang up never."""
    left = list(parts)

    async def receive() -> Message:
        while left and callable(left[0]):
            await left.pop(0)()  # type: ignore[operator]
        if not left:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    reply = Reply()
    scope: Scope = {"type": "http", "path": path, "headers": [(b"x", header)], "client": (client, 1)}
    await asyncio.wait_for(door(scope, receive, reply.send), 30)
    return reply


async def answer(send: Send, code: int, content: bytes, kind: bytes = b"application/json") -> None:
    await send({"type": "http.response.start", "status": code, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": content})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand for Serve's proxy: reads without end, answers the length, and cancels what has hung up."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        if not message["more_body"]:
            await answer(send, 200, b'{"size": %d}' % size)
            return


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def record(metric: telemetry.Metric, value: float = 1.0, **labels: str) -> None:
        if metric is REQUESTS:
            found.append((labels["route"], labels["code"]))

    monkeypatch.setattr(telemetry, "record", record)
    return found


def test_a_request_passes_as_it_is_and_is_not_counted_twice(counted: list[tuple[str, str]]) -> None:
    reply = asyncio.run(ask(Door(echo), b"x" * 300_000, b"y" * 7))
    assert (reply.code, reply.json, reply.headers[MARK]) == (200, {"size": 300_007}, "1")
    assert counted == []


@pytest.mark.parametrize(("given", "kept"), [("2f1d2f6e-6a1b-4a6c-9e51-0d8f4f7cfb11", True), ("MRN-774411", False)])
def test_a_client_s_request_id_is_passed_on_only_if_it_is_a_uuid(given: str, kept: bool) -> None:
    """Serve writes it into its logs; a client may have put a patient's number there."""
    seen: list[bytes] = []

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(value for name, value in scope["headers"] if name == b"x-request-id")
        await answer(send, 200, b"{}")

    async def run() -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        headers = [(b"x-request-id", given.encode()), (b"x", b"y")]
        await Door(look)(
            {"type": "http", "path": "/", "headers": headers, "client": ("127.0.0.1", 1)}, receive, Reply().send
        )

    asyncio.run(run())
    assert seen == ([given.encode()] if kept else [])


def test_a_body_that_comes_too_slowly_is_ended(counted: list[tuple[str, str]]) -> None:
    reply = asyncio.run(ask(Door(echo, LIMITS), b"x", asyncio.Event().wait, b"never"))  # type: ignore[arg-type]
    assert (reply.code, reply.json["reason"], reply.headers["connection"]) == (408, "too_slow", "close")
    assert counted == [("/v1/predict", "408")]


def test_a_body_of_the_least_rate_may_take_longer_than_the_grace() -> None:
    async def pause() -> None:
        await asyncio.sleep(0.15)

    reply = asyncio.run(ask(Door(echo, LIMITS), b"x" * 10**6, pause, b"x" * 10**6, pause, b"x"))
    assert reply.json == {"size": 2 * 10**6 + 1}


def test_waiting_for_room_is_not_the_client_s_slowness() -> None:
    async def run() -> None:
        limits = ProxyLimits(held_bytes=2**18, grace_s=0.2, floor_bytes_s=1e9)
        begun, go = asyncio.Event(), asyncio.Event()

        async def busy(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            begun.set()
            if scope["path"] == "/first":
                await go.wait()
            await answer(send, 200, b"{}")

        door = Door(busy, limits)
        first = asyncio.create_task(ask(door, b"x" * 2**18, path="/first"))
        await begun.wait()
        second = asyncio.create_task(ask(door, b"y"))
        await asyncio.sleep(0.5)
        assert not second.done()
        go.set()
        assert [(await one).code for one in (first, second)] == [200, 200]

    asyncio.run(run())


def test_beyond_the_line_clients_are_told_to_come_back_and_health_is_answered(counted: list[tuple[str, str]]) -> None:
    async def run() -> None:
        door = Door(echo, LIMITS)
        go = asyncio.Event()
        inside = [asyncio.create_task(ask(door, go.wait, b"x")) for _ in range(2)]  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        shed = await ask(door, b"x")
        assert (shed.code, shed.json["reason"]) == (503, "busy")
        assert int(shed.headers["retry-after"]) > 0
        assert (await ask(door, b"", path="/healthz")).code == 200
        go.set()
        assert [(await one).code for one in inside] == [200, 200]
        assert (await ask(door, b"x")).code == 200

    asyncio.run(run())
    assert counted == [("/v1/predict", "503")]


def test_a_silent_client_keeps_no_place_that_another_one_needs(counted: list[tuple[str, str]]) -> None:
    async def run() -> None:
        door = Door(echo, ProxyLimits(requests=2, press_grace_s=0.05))
        go = asyncio.Event()
        silent = [asyncio.create_task(ask(door, go.wait, b"x")) for _ in range(2)]  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        assert (await ask(door, b"x" * 10)).json == {"size": 10}
        go.set()
        codes = sorted([(await one).code for one in silent])
        assert codes == [200, 503]
        gone = next(one.result() for one in silent if one.result().code == 503)
        assert (gone.json["reason"], gone.headers["connection"]) == ("busy", "close")
        assert int(gone.headers["retry-after"]) > 0

    asyncio.run(run())
    assert counted == [("/v1/predict", "503")]


def test_who_fills_the_room_and_then_stalls_gives_way_to_a_quick_client() -> None:
    async def run() -> None:
        door = Door(echo, ProxyLimits(held_bytes=2**20, press_grace_s=0.05))
        never = asyncio.Event()
        stalled = [
            asyncio.create_task(ask(door, b"x" * 2**19, never.wait, b"x"))  # type: ignore[arg-type]
            for _ in range(2)
        ]
        await asyncio.sleep(0.1)
        assert (await ask(door, b"y" * 10)).json == {"size": 10}
        ended = [one for one in stalled if one.done()]
        assert [one.result().json["reason"] for one in ended] == ["busy"]  # no more of them than is needed
        for one in stalled:
            one.cancel()

    asyncio.run(run())


def test_200_uploads_at_once_are_all_answered_within_the_bound() -> None:
    part, bound, highest = bytes(2**18), 16 * 2**20, 0

    async def measured(scope: Scope, receive: Receive, send: Send) -> None:
        async def noted() -> Message:
            nonlocal highest
            message = await receive()
            highest = max(highest, door._room.held)
            return message

        await echo(scope, noted, send)

    door = Door(measured, ProxyLimits(held_bytes=bound))

    async def pause() -> None:
        await asyncio.sleep(0.01)  # others' parts come between

    more: list[bytes | Wait] = [pause, part]

    async def run() -> list[Reply]:
        return await asyncio.gather(*(ask(door, part, *more * 3) for _ in range(200)))

    assert {(reply.code, reply.json["size"]) for reply in asyncio.run(run())} == {(200, 2**20)}
    assert bound / 2 < highest <= bound + 2**20, "the oldest one may go on, and only that one"
    assert door._room.held == 0


def test_slow_clients_do_not_end_each_other_for_room() -> None:
    async def run() -> None:
        door = Door(echo, ProxyLimits(held_bytes=3 * 2**18, press_grace_s=0.05))
        go = asyncio.Event()

        async def pause() -> None:
            await asyncio.sleep(0.1)

        first = asyncio.create_task(ask(door, b"x" * 2**18, go.wait, b"x"))  # type: ignore[arg-type]
        second = asyncio.create_task(ask(door, pause, b"x" * 2**10, b"y" * 2**18))
        await asyncio.sleep(1.0)
        assert not first.done()
        go.set()
        assert [(await one).code for one in (first, second)] == [200, 200]

    asyncio.run(run())


class Endless:
    """A client that never stops sending, and says so: ``Transfer-Encoding: chunked``."""

    def __init__(self) -> None:
        self.sent = 0

    async def receive(self) -> Message:
        await asyncio.sleep(0)
        self.sent += 2**16
        return {"type": "http.request", "body": bytes(2**16), "more_body": True}

    async def ask(self, door: Door) -> tuple[Reply, list[bool]]:
        reply, ends = Reply(), []

        async def send(message: Message) -> None:
            ends.append(message["type"] == "http.response.body" and not message.get("more_body"))
            await reply.send(message)

        headers = [(b"transfer-encoding", b"chunked"), (b"x", b"y" * 2000)]
        scope: Scope = {"type": "http", "path": "/v1/predict", "headers": headers, "client": ("127.0.0.1", 1)}
        await asyncio.wait_for(door(scope, self.receive, send), 30)
        return reply, ends


async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, 401, b"{}")


@pytest.mark.parametrize(("app", "header_bytes", "code"), [(refusing, 2**16, 401), (echo, 1000, 431)])
def test_a_body_without_end_is_not_read_on_once_its_request_is_refused(app: Any, header_bytes: int, code: int) -> None:
    client = Endless()
    limits = ProxyLimits(header_bytes=header_bytes, linger_bytes=2**20, linger_s=5.0)
    reply, ends = asyncio.run(client.ask(Door(app, limits)))
    assert (reply.code, reply.headers["connection"]) == (code, "close")
    assert ends.count(True) == 1
    assert ends[-1]
    assert client.sent == 2**20


def test_a_body_that_has_come_whole_leaves_the_connection_open() -> None:
    async def run() -> Reply:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"xy", "more_body": False}

        reply = Reply()
        scope: Scope = {
            "type": "http",
            "path": "/v1/predict",
            "headers": [(b"content-length", b"2")],
            "client": ("127.0.0.1", 1),
        }
        await Door(echo)(scope, receive, reply.send)
        return reply

    assert "connection" not in asyncio.run(run()).headers


def test_long_headers_are_refused() -> None:
    assert asyncio.run(ask(Door(echo, LIMITS), b"x", header=b"x" * 1000)).code == 431


FAR = "192.0.2.7"
STRICT = ProxyLimits(client_rate=0.5, client_burst=3, wrong_rate=0.01, wrong_burst=2)


def test_a_client_that_asks_too_often_is_told_when_to_come_back_and_others_are_answered() -> None:
    async def run() -> list[Reply]:
        door = Door(echo, STRICT)
        asked = [(FAR, "/v1/predict")] * 4 + [("192.0.2.8", "/v1/predict"), (FAR, "/readyz"), ("::1", "/v1/predict")]
        return [await ask(door, b"x", client=client, path=path) for client, path in asked]

    replies = asyncio.run(run())
    assert [reply.code for reply in replies] == [200, 200, 200, 429, 200, 200, 200]
    assert replies[3].json["reason"] == "too_many_requests"
    assert replies[3].headers["retry-after"] == "2"


def test_serve_s_own_routes_are_shown_to_this_machine_only() -> None:
    async def run() -> list[int]:
        asked = [("127.0.0.1", "/-/routes"), (FAR, "/-/routes"), (FAR, "/-/healthz")]
        return [(await ask(Door(echo, STRICT), b"x", client=client, path=path)).code for client, path in asked]

    assert asyncio.run(run()) == [200, 404, 200]


def test_who_guesses_tokens_is_not_let_in_any_more_and_others_are() -> None:
    reached: list[str] = []

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["client"][0])
        await answer(send, 401, b"{}")

    async def run() -> list[Reply]:
        door = Door(guarded, STRICT)
        return [await ask(door, b"x", client=client) for client in [FAR] * 3 + ["192.0.2.8", "127.0.0.1"]]

    replies = asyncio.run(run())
    assert [reply.code for reply in replies] == [401, 401, 429, 401, 401]
    assert reached == [FAR, FAR, "192.0.2.8", "127.0.0.1"]
    assert int(replies[2].headers["retry-after"]) > 50


@pytest.mark.parametrize(
    ("given", "rate"), [("", 50), ("7.5", 7.5), ("0", 0), ("-1", 50), ("nan", 50), ("inf", 50), ("x", 50)]
)
def test_a_node_sets_the_rate(monkeypatch: pytest.MonkeyPatch, given: str, rate: float) -> None:
    monkeypatch.setenv(RATE_VARIABLE, given)
    (made,) = middlewares()
    limits: Any = made.kwargs["limits"]
    assert limits.client_rate == rate


@pytest.mark.parametrize("code", [503, 408])
def test_what_serve_says_in_plain_text_is_said_as_json(counted: list[tuple[str, str]], code: int) -> None:
    async def shed(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, code, b"Request dropped due to backpressure", b"text/plain; charset=utf-8")

    reply = asyncio.run(ask(Door(shed), b"x"))
    assert (reply.code, reply.json["reason"]) == (503, "unavailable")
    assert int(reply.headers["retry-after"]) > 0
    assert counted == [("/v1/predict", "503")]


def test_a_request_that_is_lost_with_its_replica_may_be_tried_again(counted: list[tuple[str, str]]) -> None:
    async def lost(scope: Scope, receive: Receive, send: Send) -> None:
        """Stand for Serve's proxy, which says nothing when a replica dies."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("not for clients")

    for app in (lost, broken):
        reply = asyncio.run(ask(Door(app), b"x"))
        assert (reply.code, reply.json["reason"]) == (503, "unavailable")
        assert b"not for" not in reply.content
    assert counted == [("/v1/predict", "503")] * 2


def test_a_client_that_hung_up_gets_and_counts_nothing(counted: list[tuple[str, str]]) -> None:
    async def run() -> Reply:
        reply = Reply()

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        await Door(echo)({"type": "http", "path": "/v1/predict", "headers": []}, receive, reply.send)
        return reply

    assert asyncio.run(run()).code == 0
    assert counted == []


def test_ray_finds_it_where_it_is_told() -> None:
    module, _, name = PROXY_MIDDLEWARES.partition(":")
    assert [one.cls for one in getattr(importlib.import_module(module), name)()] == [Door]
