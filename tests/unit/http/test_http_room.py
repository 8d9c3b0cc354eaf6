"""What bodies may hold together: a bound that fast senders share, and nobody waits for ever."""

from __future__ import annotations

import asyncio

from cxrgaze_ray.http.body_room import Room, Share

READ = 2**18


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_there_is_room_for_so_much_and_the_rest_waits() -> None:
    async def run() -> None:
        room = Room(3 * READ)
        shares = [room.enter() for _ in range(5)]
        reads = [asyncio.create_task(room.before_read(share)) for share in shares]
        await settle()
        assert [read.done() for read in reads] == [True, True, True, False, False]
        for share in shares[:3]:
            room.after_read(share, READ)
        await settle()
        assert not reads[3].done()
        room.leave(shares[1])
        await settle()
        assert [read.done() for read in reads[3:]] == [True, False]
        assert room.held == 3 * READ

    asyncio.run(run())


def test_the_oldest_may_always_go_on_and_its_end_lets_the_next_oldest() -> None:
    async def run() -> None:
        room = Room(READ)
        first, second, third = (room.enter() for _ in range(3))
        await room.before_read(first)
        room.after_read(first, READ)
        await asyncio.wait_for(room.before_read(first), 5)
        room.after_read(first, READ)
        waiting = [asyncio.create_task(room.before_read(share)) for share in (second, third)]
        await settle()
        assert not any(read.done() for read in waiting)
        room.leave(first)
        await settle()
        assert [read.done() for read in waiting] == [True, False]
        room.after_read(waiting_share := second, 3 * READ)
        room.leave(waiting_share)
        await settle()
        assert waiting[1].done()

    asyncio.run(run())


def test_whoever_came_first_goes_on_first() -> None:
    async def send(room: Room, share: Share, complete: list[Share]) -> None:
        for _ in range(4):
            await room.before_read(share)
            await asyncio.sleep(0)
            room.after_read(share, READ)
        complete.append(share)

    async def run() -> None:
        room, complete = Room(8 * READ), list[Share]()
        shares = [room.enter() for _ in range(16)]
        sending = [asyncio.create_task(send(room, share, complete)) for share in shares]
        for served in range(5):
            await settle()
            assert shares[served] in complete
            assert not any(share.held for share in shares[8:]), "no new body is begun before the older ones are whole"
            room.leave(shares[served])
        for task in sending:
            task.cancel()

    asyncio.run(run())


def test_a_read_that_is_given_up_holds_nothing_and_blocks_nobody() -> None:
    async def run() -> None:
        room = Room(READ)
        first, second, third = (room.enter() for _ in range(3))
        await room.before_read(first)
        given_up, waiting = (asyncio.create_task(room.before_read(share)) for share in (second, third))
        await settle()
        given_up.cancel()
        await settle()
        room.leave(second)
        assert room.held == READ
        room.leave(first)
        await settle()
        assert waiting.done()
        room.leave(third)
        assert room.held == 0

    asyncio.run(run())


def test_small_reads_take_what_they_are() -> None:
    async def run() -> None:
        room = Room(2 * READ)
        shares = [room.enter() for _ in range(100)]
        for share in shares:
            await asyncio.wait_for(room.before_read(share), 5)
            room.after_read(share, 1000)
        assert room.held == 100_000

    asyncio.run(run())
