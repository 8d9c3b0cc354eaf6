"""A few decoding processes for one ingress replica, replaced as a whole when the profile changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cxrgaze_ray.radiograph.decoding import Decoded, Decoder
from cxrgaze_ray.telemetry import Waiting, timed
from cxrgaze_ray.telemetry.table import STAGE_SECONDS


class DecoderPool:
    """Decodes as many bodies at a time as there are decoders; the last used goes first, so spare ones never start.

    Parameters
    ----------
    count
        Number of decoders.
    make
        Makes one; its process starts with its first body.
    """

    def __init__(self, count: int, make: Callable[[], Decoder]) -> None:
        self._free: asyncio.LifoQueue[Decoder] = asyncio.LifoQueue()
        for _ in range(count):
            self._free.put_nowait(make())
        self._users, self._waiting = 0, Waiting("decoder")
        self._retired = False

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Keep the processes until the end of the block, even if they are retired meanwhile."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            await self._close_unused()

    async def decode(self, body: bytes) -> Decoded:
        """Decode a body, see `Decoder.decode`; call it within `held`."""
        with self._waiting, timed(STAGE_SECONDS, job="serve", stage="decode"):
            return await self._decoded(body)

    async def _decoded(self, body: bytes) -> Decoded:
        decoder = await self._free.get()
        work = asyncio.ensure_future(asyncio.to_thread(decoder.decode, body))
        work.add_done_callback(lambda _: self._idle(decoder))  # if the client hangs up, it is still busy
        try:
            return await asyncio.shield(work)
        finally:
            del work  # it holds the error, whose trace holds this frame: the body would outlive its answer

    async def retire(self) -> None:
        """End the processes once nobody holds them."""
        self._retired = True
        await self._close_unused()

    def _idle(self, decoder: Decoder) -> None:
        self._free.put_nowait(decoder)
        if self._retired and not self._users:
            self._closing = asyncio.ensure_future(self._close_unused())

    async def _close_unused(self) -> None:
        if self._retired and not self._users:
            while not self._free.empty():
                await asyncio.to_thread(self._free.get_nowait().close)
