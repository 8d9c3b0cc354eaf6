"""What the service promises, judged by what its clients got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cxrgaze_ray.benchmark.soak.faults import KILLS, Burst, Event, Window
from cxrgaze_ray.benchmark.soak.memory import Held, Look
from cxrgaze_ray.benchmark.soak.traffic import Answer

MEND_WITHIN_S = 120.0
"""Longest time from a fault to a service that is whole again; a replica takes seconds to start, and a node more."""

CHECK_WITHIN_S = 10.0
"""Longest time that a health check may take while the service is as busy as it can be, with its clients beside it."""


@dataclass(frozen=True)
class Promise:
    """A promise.

    Attributes
    ----------
    what, kept, found
        What it is, whether it was kept, and what was found.
    timed
        Whether it is about seconds: a machine that has other work may break it, however well the service does.
    """

    what: str
    kept: bool
    found: str
    timed: bool = False


@dataclass(frozen=True)
class Tally:
    """What clients got while something happened.

    Attributes
    ----------
    event, seconds
        What happened, and how long.
    scored, refused, told_to_wait
        Pictures that were scored; malformed requests that were refused as they should be; 503 with Retry-After.
    hung_up
        Clients that hung up, because they always do or because their patience was at its end.
    wrong
        Everything else.
    p50_ms, p95_ms, p99_ms
        From the first byte sent to the last one received, of what was scored; None where nothing was.
    gap_s
        Longest time without a picture that was scored.
    """

    event: str
    seconds: float
    scored: int
    refused: int
    told_to_wait: int
    hung_up: int
    wrong: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    gap_s: float


def during(answers: Sequence[Answer], windows: Sequence[Window]) -> list[list[Answer]]:
    """Return the answers of each window: of all that a request's time touches, a kill has it, else the last one."""
    found: list[list[Answer]] = [[] for _ in windows]
    for answer in answers:
        touched = [
            place for place, one in enumerate(windows) if one.began <= answer.ended and answer.began <= one.ended
        ]
        if touched:
            kills = [place for place in touched if windows[place].event in KILLS]
            found[(kills or touched)[-1]].append(answer)
    return found


def tally(window: Window, answers: Sequence[Answer]) -> Tally:
    """Sum up what clients got."""
    scored = [one for one in answers if one.code == 200 and one.as_promised]
    seconds = [one.seconds for one in scored]
    p50, p95, p99 = (float(1000 * np.percentile(seconds, one)) if seconds else None for one in (50, 95, 99))
    moments = [window.began, *sorted(min(one.ended, window.ended) for one in scored), window.ended]
    sorts = Counter(_sort(one) for one in answers)
    return Tally(
        window.event, window.seconds, len(scored), sorts["refused"], sorts["told to wait"], sorts["hung up"],
        sorts["wrong"], p50, p95, p99, float(np.diff(moments).max()),
    )  # fmt: skip


def judge(
    answers: Sequence[Answer],
    windows: Sequence[Window],
    burst: Burst,
    held: Sequence[Held],
    steady: Sequence[Look],
) -> list[Promise]:
    """Judge everything; `steady` are the looks at the processes in the last window."""
    parts = list(zip(windows, during(answers, windows), strict=True))
    return [*_answers(parts), *_burst(burst), *_mended(windows), *_processes(held, steady)]


def _sort(answer: Answer) -> str:
    if answer.as_promised:
        return {200: "scored", 0: "hung up"}.get(answer.code, "refused")
    return "told to wait" if answer.told_to_come_back else "wrong"


def _answers(parts: Sequence[tuple[Window, Sequence[Answer]]]) -> Iterator[Promise]:
    for window, answers in parts:
        may_wait = window.event in KILLS or window.event is Event.BURST
        broken = [one for one in answers if not (one.as_promised or (may_wait and one.told_to_come_back))]
        what = "its own answer to everything" + (", or 503 with Retry-After" if may_wait else "")
        scored = any(one.code == 200 for one in answers)
        yield Promise(f"{window.event}: {what}", scored and not broken, _told(answers, broken))


def _told(answers: Sequence[Answer], broken: Sequence[Answer]) -> str:
    if not broken:
        return f"all of {len(answers)}"
    sorts = Counter(f"{one.kind.name}: {one.code} {one.reason}".strip() for one in broken)
    return f"not {len(broken)} of {len(answers)}: " + ", ".join(f"{name} ({n})" for name, n in sorts.most_common(5))


def _burst(burst: Burst) -> Iterator[Promise]:
    answers = burst.answers
    scored = sum(one.as_promised for one in answers)
    waiting = sum(one.told_to_come_back for one in answers)
    left = sum(one.gave_up for one in answers)
    found = f"{scored} scored, {waiting} told to come back, {left} lost patience, of {len(answers)}"
    yield Promise("burst: scored, or 503 with Retry-After", scored + waiting + left == len(answers), found)
    yield Promise("burst: the queue is bounded", waiting > 0, found)
    slowest = max((one.seconds for one in burst.checks), default=0.0)
    well, found = (
        all(one.as_promised for one in burst.checks),
        f"{len(burst.checks)} checks, the slowest in {slowest:.1f} s",
    )
    yield Promise("burst: health is answered", bool(burst.checks) and well, found)
    yield Promise(
        f"burst: health is answered within {CHECK_WITHIN_S:.0f} s", slowest < CHECK_WITHIN_S, found, timed=True
    )


def _mended(windows: Sequence[Window]) -> Iterator[Promise]:
    for window in windows:
        if window.event not in (Event.CALM, Event.STEADY):
            kept = window.over and window.seconds < MEND_WITHIN_S
            yield Promise(
                f"{window.event}: over within {MEND_WITHIN_S:.0f} s", kept, f"{window.seconds:.1f} s", timed=True
            )


def _processes(held: Sequence[Held], steady: Sequence[Look]) -> Iterator[Promise]:
    begun, ended = (steady[0].pids, steady[-1].pids) if steady else (frozenset[int](), frozenset[int]())
    gone = len(begun - ended)
    yield Promise("steady: no process of the service ends", bool(begun) and not gone, f"{gone} of {len(begun)} ended")
    grown = [f"{one.role} {(one.last - one.first) / 2**20:+.0f} MiB" for one in held]
    yield Promise("steady: memory is flat", bool(held) and all(one.flat for one in held), ", ".join(grown))
