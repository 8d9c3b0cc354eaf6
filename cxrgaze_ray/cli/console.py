"""All output to the user: sentences and progress on stderr, results on stdout, JSON for machines.

Any of it may hold what others wrote (reasons in a ledger, names of files, errors of a store), so all of it is made
`printable` and never taken for Rich's markup. Nothing else in this package writes to a terminal.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, cast

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from cxrgaze_ray.cluster.interrupts import interrupt
from cxrgaze_ray.errors import CxrgazeError, Interrupted
from cxrgaze_ray.reports.printable import printable
from cxrgaze_ray.telemetry.logs import line_of, wanted

if TYPE_CHECKING:
    from cxrgaze_ray.training.progress import EpochStep

_NUMBER = re.compile(r"[-+]?[\d,.]+(e[-+]?\d+)?( ?(%|s|ms|min|h|d|B|kB|MB|GB|TB))?|-")
"""Cells that stand at the right of their column."""

_WARNING = "Warning"


class _Volume:
    """How much is said: -1 warnings and errors only, 0 sentences and bars, 1 all that is known."""

    level = 0
    began = time.monotonic()


def set_volume(level: int) -> None:
    """Choose how much is said from now on: -1, 0 or 1."""
    _Volume.level = level
    if level > 0 and not wanted():
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=terminal().file)


@cache
def terminal() -> Console:
    """Return a console on a copy of stderr, which stays the user's while Ray's noise goes to a file."""
    return Console(file=os.fdopen(os.dup(2), "w", buffering=1), highlight=False, soft_wrap=True)


def say(sentence: str) -> None:
    """Tell the user something that is not part of the result."""
    if _Volume.level < 0 and not sentence.startswith(_WARNING):
        return
    known = f"{time.monotonic() - _Volume.began:7.1f} s  {sentence}" if _Volume.level > 0 else sentence
    _write(known, logging.WARNING if sentence.startswith(_WARNING) else logging.INFO)


def say_detail(sentence: str) -> None:
    """Tell the user something that only those want to read who asked for all that is known."""
    if _Volume.level > 0:
        say(sentence)


def complain(sentence: str) -> None:
    """Tell the user what nothing silences: an error."""
    _write(sentence, logging.ERROR)


def _write(sentence: str, level: int) -> None:
    with suppress(OSError):  # a terminal that is gone, or a pipe that nobody reads, is not a reason to stop
        if wanted():
            print(line_of(sentence, level), file=terminal().file)
        else:
            terminal().print(_text(sentence))


def error_line(error: CxrgazeError) -> str:
    """Return an error with its hint and its notes, in one line."""
    return " ".join([str(error), *(f"{note}." for note in getattr(error, "__notes__", []))])


def show(result: dict[str, Any], *, as_json: bool, lines: list[str] | None = None) -> None:
    """Print a result on stdout: as JSON, or as the given lines, or as a table of its entries."""
    if as_json:
        typer.echo(json.dumps(result, default=str))  # escapes all but ASCII's printable characters
    elif lines is not None:
        typer.echo("\n".join(map(printable, lines)))
    else:
        print_table(["", ""], [[name.replace("_", " "), value] for name, value in result.items()])


def print_table(columns: list[str], rows: list[list[Any]]) -> None:
    """Print rows on stdout as a table: coloured on a terminal, plain lines of whatever length elsewhere."""
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    right = [all(_NUMBER.fullmatch(row[place]) or not row[place] for row in cells) for place in range(len(columns))]
    if not sys.stdout.isatty():
        _print_plain([printable(name) for name in columns], cells, right)
        return
    table = Table(box=None, show_header=any(columns), pad_edge=False, header_style="bold", row_styles=["", "dim"])
    for place, name in enumerate(columns):
        # the first names the row, and can be copied
        style, justify = ("cyan", "left") if place == 0 else ("", "right" if right[place] else "left")
        table.add_column(_text(name), overflow="fold", no_wrap=place == 0, style=style, justify=cast("Any", justify))
    for row in cells:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def _print_plain(columns: list[str], rows: list[list[str]], right: list[bool]) -> None:
    every = [columns, *rows] if any(columns) else rows
    widths = [max(map(cell_len, column)) for column in zip(*every, strict=True)]
    for row in every:
        padded = (
            " " * (width - cell_len(cell)) + cell if to_right else cell + " " * (width - cell_len(cell))
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        typer.echo("  ".join(padded).rstrip())


def _text(value: object) -> Text:
    return Text(printable(str(value)))


def tell_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a bug's traceback, as `sys.excepthook` does, made printable: it may quote what others wrote."""
    for line in "".join(traceback.format_exception(kind, error, trace)).splitlines():
        complain(line)


def tell_error(error: CxrgazeError) -> None:
    """Print an expected error in one line, and if all is to be said, where it comes from."""
    if _Volume.level > 0:
        tell_bug(type(error), error, error.__traceback__)
    complain(f"cxrgaze: {error_line(error)}")


class ProgressBar:
    """A progress bar with rate and time left; where there is no terminal, a line every tenth of the way."""

    def __init__(self, progress: Progress | None, task: TaskID | None, label: str) -> None:
        self._progress, self._task, self._label, self._told = progress, task, label, -1

    def update(self, done: int, total: int, note: str = "") -> None:
        """Move the bar to `done` of `total`."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total, note=printable(note))
            return
        tenth = 10 * done // total if total else 10
        if tenth > self._told or done == 0:
            self._told = tenth
            say(f"{self._label}: {done} of {total} {note}".rstrip())


@contextmanager
def bar(label: str, *, quiet: bool = False) -> Iterator[ProgressBar]:
    """Show a progress bar while the block runs; with `quiet` nothing is shown."""
    quiet = quiet or _Volume.level < 0
    if quiet or not _has_bars():
        yield ProgressBar(None, None, label) if not quiet else _Silent()
        return
    with Progress(*_columns(), _Rate(), TimeRemainingColumn(), console=terminal(), transient=True) as progress:
        yield ProgressBar(progress, progress.add_task(label, total=None, note=""), label)


class EpochBar:
    """The bar of a training's epoch, with images a second and time left; nothing where there is no terminal."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress, self._task = (
            progress,
            None if progress is None else progress.add_task("", visible=False, note=""),
        )

    def step(self, at: EpochStep) -> None:
        """Show where the training is."""
        if self._progress is not None and self._task is not None:
            left = human_seconds((at.of - at.images) / at.rate) if at.rate > 0 else "?"
            self._progress.update(
                self._task,
                visible=at.images < at.of or at.split == "train",  # an epoch that is over has its line
                completed=at.images,
                total=at.of,
                description=printable(f"{at.stage} epoch {at.epoch}/{at.epochs} {at.split}"),
                note=f"{at.rate:.1f} images/s, {left} left",
            )


@contextmanager
def epoch_bar(*, quiet: bool = False) -> Iterator[EpochBar]:
    """Show the epochs of a training while the block runs; with `quiet`, or in a pipe, nothing is shown."""
    if quiet or _Volume.level < 0 or not _has_bars():
        yield EpochBar()
        return
    with Progress(*_columns(), console=terminal(), transient=True) as progress:
        yield EpochBar(progress)


def _has_bars() -> bool:
    return terminal().is_terminal and not wanted()


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )


class _Rate(ProgressColumn):
    """How many are done in a second."""

    def render(self, task: Task) -> Text:
        """Return the rate, once it is known."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


class _Silent(ProgressBar):
    def __init__(self) -> None:
        super().__init__(None, None, "")

    def update(self, done: int, total: int, note: str = "") -> None:
        """Show nothing."""


STOP_SCORING = "Stopping: open shards are completed first. Ctrl-C again stops at once; committed shards stay."

UNBOUNDED = (
    "Warning: bodies are not bounded: the nodes lack RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH (docs/how-to/serve.md)."
)

IN_THE_CLEAR = (
    "Warning: tokens and pictures travel in the clear. Set ssl_certfile and ssl_keyfile, or have a proxy do it."
)

STOP_SERVING = "Stopping: requests in progress have some seconds to end. Ctrl-C again stops at once."


@contextmanager
def stop_on_interrupt(sentence: str) -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets, saying a sentence; the second one stops at once.

    SIGTERM and SIGHUP do the same: see `interrupts.answer_as_ctrl_c`.
    """
    stop, asked = threading.Event(), False
    reader, writer = os.pipe()

    def answer() -> None:
        if os.read(reader, 1):
            stop.set()
            say(sentence)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            interrupt(number, frame)
            return
        asked = True
        # The signal may have come while this thread waits for the event or writes a sentence, and holds its lock:
        # a separate thread sets the event and writes the sentence.
        os.write(writer, b"!")

    answering = threading.Thread(target=answer, name="stop", daemon=True)
    answering.start()
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(writer)
        answering.join()
        os.close(reader)


def asks(question: str) -> bool:
    """Ask somebody at the terminal; where there is none, or whoever is there presses Ctrl-C again, the answer is no."""
    if not (sys.stdin.isatty() and terminal().is_terminal):
        return False
    with suppress(OSError, KeyboardInterrupt):
        terminal().print(_text(f"{question} [y/N] "), end="")
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    return False


def stay(stop: threading.Event) -> NoReturn:
    """Wait for a request to stop, then end with the exit code for that: nothing else ends a service."""
    stop.wait()
    raise Interrupted("Stopped, as asked.")


def human_bytes(count: float) -> str:
    """Return a byte count for people, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def human_seconds(seconds: float) -> str:
    """Return a duration for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
