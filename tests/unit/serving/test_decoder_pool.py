"""An ingress's decoders: several at once, and none lost or left over when the profile changes."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.serving.decoder_pool import DecoderPool


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


def pool_of(count: int) -> tuple[DecoderPool, list[Slow]]:
    made: list[Slow] = []

    def make() -> Decoder:
        made.append(Slow())
        return made[-1]  # type: ignore[return-value]

    return DecoderPool(count, make), made


async def until(pool: DecoderPool, busy: list[Slow]) -> None:
    for one in busy:
        assert await asyncio.to_thread(one.busy.wait, 30)


async def ask(pool: DecoderPool, body: bytes) -> object:
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


def test_a_client_that_hangs_up_gives_its_decoder_back_once_that_is_idle() -> None:
    async def run() -> None:
        pool, made = pool_of(2)
        hung_up = asyncio.create_task(ask(pool, b"slow"))
        await until(pool, [made[1]])  # the last made is taken first
        hung_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hung_up
        made[0].go.set()
        assert await asyncio.wait_for(ask(pool, b"next"), 5) == b"next"
        waiting = [asyncio.create_task(ask(pool, b"%d" % number)) for number in range(3)]
        assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [b"0", b"1", b"2"]
        made[0].go.clear()
        busy = asyncio.create_task(ask(pool, b"busy"))
        await until(pool, [made[0]])
        made[1].go.set()
        assert await asyncio.wait_for(ask(pool, b"back"), 5) == b"back"
        made[0].go.set()
        await busy

    asyncio.run(run())


def test_a_refused_body_is_gone_with_its_answer() -> None:
    """Not at some later garbage collection: sixty of the largest ones would be gigabytes by then."""

    class Body(bytearray):
        """Bytes that can be watched."""

    async def refused(pool: DecoderPool, body: Any) -> str:
        try:
            async with pool.held():
                await pool.decode(body)
        except ValueError:
            return "refused"
        return "scored"

    async def run() -> None:
        pool, made = pool_of(1)
        made[0].go.set()
        body = Body(b"bad")
        seen = weakref.ref(body)
        assert await asyncio.create_task(refused(pool, body)) == "refused"
        del body
        for _ in range(20):
            await asyncio.sleep(0)
        await asyncio.to_thread(lambda: None)  # the thread lets go of its last work with the next one
        assert seen() is None

    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_a_decoder_that_a_client_left_busy_ends_with_its_retired_pool() -> None:
    async def run() -> None:
        pool, made = pool_of(1)
        hung_up = asyncio.create_task(ask(pool, b"bad"))
        await until(pool, made)
        hung_up.cancel()
        await asyncio.gather(hung_up, return_exceptions=True)
        await pool.retire()
        assert not made[0].closed
        made[0].go.set()
        for _ in range(1000):
            await asyncio.sleep(0.005)
            if made[0].closed:
                break
        assert made[0].closed

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
