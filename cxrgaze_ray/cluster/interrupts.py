"""Requests to stop a command: Ctrl-C, the SIGTERM of a cluster manager, the SIGHUP of a terminal that is gone."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO

_ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def answer_as_ctrl_c(*terminals: IO[str]) -> None:
    """From now on, answer SIGTERM and SIGHUP as Ctrl-C is answered at that moment; a signal ignored (nohup) stays so.

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
        (ctrl_c if callable(ctrl_c) else signal.default_int_handler)(signal.SIGINT, frame)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, answer)


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

    def hold(number: int, _frame: FrameType | None) -> None:
        if waiting:
            raise KeyboardInterrupt
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
