"""An ingress's decoders: several at once, and none lost or left over when the profile changes."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cxrgaze_ray.decoding import Decoder
from cxrgaze_ray.serving.decoders import Decoders


class Slow:
    """Stands for a decoder whose images take until the test lets them go."""

    def __init__(self) -> None:
        self.go, self.busy, self.closed, self.after_close = threading.Event(), threading.Event(), False, 0

    def decode(self, body: bytes) -> bytes:
        self.after_close += self.closed
        self.busy.set()
        assert self.go.wait(30)
        self.busy.clear()
        if body == b"bad":
            raise ValueError(body)
        return body

    def close(self) -> None:
        self.closed = True


def pool_of(count: int) -> tuple[Decoders, list[Slow]]:
    made: list[Slow] = []

    def make() -> Decoder:
        made.append(Slow())
        return made[-1]  # type: ignore[return-value]

    return Decoders(count, make), made


async def until(pool: Decoders, busy: list[Slow]) -> None:
    for one in busy:
        assert await asyncio.to_thread(one.busy.wait, 30)


async def ask(pool: Decoders, body: bytes) -> object:
    async with pool.held():
        return await pool.decode(body)


def test_bodies_are_decoded_side_by_side_and_the_rest_wait() -> None:
    async def run() -> None:
        pool, made = pool_of(2)
        answers = [asyncio.create_task(ask(pool, b"%d" % number)) for number in range(5)]
        await until(pool, made)
        for one in made:
            one.go.set()
        assert await asyncio.gather(*answers) == [b"0", b"1", b"2", b"3", b"4"]

    asyncio.run(run())


def test_a_retired_pool_finishes_what_it_holds_and_then_ends_every_process() -> None:
    async def run() -> None:
        pool, made = pool_of(2)
        answers = [asyncio.create_task(ask(pool, b"%d" % number)) for number in range(4)]
        await until(pool, made)
        await pool.retire()
        assert not any(one.closed for one in made)
        for one in made:
            one.go.set()
        assert await asyncio.gather(*answers) == [b"0", b"1", b"2", b"3"]
        assert all(one.closed and not one.after_close for one in made)

    asyncio.run(run())


def test_an_unused_pool_ends_at_once_and_an_error_frees_its_decoder() -> None:
    async def run() -> None:
        pool, made = pool_of(1)
        made[0].go.set()
        with pytest.raises(ValueError, match="bad"):
            await ask(pool, b"bad")
        assert await ask(pool, b"good") == b"good"
        await pool.retire()
        assert made[0].closed

    asyncio.run(run())
