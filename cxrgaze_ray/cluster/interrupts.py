"""Requests to stop a command: Ctrl-C, the SIGTERM of a cluster manager, the SIGHUP of a terminal that is gone."""

from __future__ import annotations

import concurrent.futures._base
import concurrent.futures.thread
import os
import queue
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO

_ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_LOCKING = {one.__file__ for one in (concurrent.futures._base, concurrent.futures.thread, queue, threading, weakref)}
_WAITING = {"wait", "_wait_for_tstate_lock", "join"}
"""Functions of the modules above that wait, and are there to be ended."""

_AGAIN_S = 0.01
_MOST_DELAYS = 100


def answer_as_ctrl_c(*terminals: IO[str]) -> None:
    """From now on, answer SIGTERM and SIGHUP as Ctrl-C is answered at that moment; a signal ignored (nohup) stays so.

    Ctrl-C itself is answered by `interrupt`, unless it has another answer already.

    Parameters
    ----------
    terminals
        Streams other than stdout and stderr that may be written to when the terminal is gone.
    """
    # once a terminal is gone, isatty() no longer tells that it was one
    written_to = [stream for stream in (sys.stdout, sys.stderr, *terminals) if stream.isatty()]

    def answer(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # shell and kernel both send it: that is no second request
            for stream in written_to:
                _send_nowhere(stream)
        ctrl_c = signal.getsignal(signal.SIGINT)
        # a shell starts what it sends to the background with Ctrl-C ignored
        (ctrl_c if callable(ctrl_c) else interrupt)(signal.SIGINT, frame)

    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, answer)


class _Interrupt:
    """Raises KeyboardInterrupt, but not where it would be lost, or leave a lock held for ever.

    A lock of the standard library's Python code is held for an instant before the `with` that releases it has begun.
    An exception from there leaves it held: threads that want it never end, and neither does the process, for it waits
    for them. What is raised in a destructor is printed, and forgotten. So there the signal comes a moment later.
    """

    def __init__(self) -> None:
        self._delays = 0

    def __call__(self, _number: int, frame: FrameType | None) -> None:
        if _to_be_left_alone(frame) and self._delays < _MOST_DELAYS:
            self._delays += 1
            signal.signal(signal.SIGALRM, self)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
            return
        self._delays = 0
        raise KeyboardInterrupt


interrupt = _Interrupt()
"""Answer to a signal: KeyboardInterrupt, where the interrupted code stands it."""


def _to_be_left_alone(frame: FrameType | None) -> bool:
    if frame is not None and frame.f_code.co_filename in _LOCKING:
        return frame.f_code.co_name not in _WAITING
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _send_nowhere(stream: IO[str]) -> None:
    """Discard what is still written: writing to a terminal that is gone would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def held() -> Iterator[None]:
    """Let the first request to stop wait for the end of the block; a second one ends the block.

    Only signals that have a handler are held. Processes started in the block don't see SIGHUP: when the terminal
    goes, this process must stop them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if waiting:
            interrupt(number, frame)
        else:
            waiting.append(number)

    before = {number: answer for number in _ALL if callable(answer := signal.getsignal(number))}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    for number in before:
        signal.signal(number, hold)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, answer in before.items():
            signal.signal(number, answer)
    for asked in waiting:
        signal.raise_signal(asked)
