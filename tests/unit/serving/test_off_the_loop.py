"""Serve's calls that wait can be made where an event loop runs, as in a notebook."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cxrgaze_ray.serving.batch import off_the_loop


def running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def asked() -> bool:
    return off_the_loop(running_loop)


async def broken() -> None:
    off_the_loop(lambda: dict[str, int]()["nothing"])


def test_a_call_never_sees_the_loop_and_stays_on_its_thread_where_there_is_none() -> None:
    assert asyncio.run(asked()) is False
    assert off_the_loop(threading.get_ident) == threading.get_ident()


def test_what_it_raises_arrives() -> None:
    with pytest.raises(KeyError, match="nothing"):
        asyncio.run(broken())
