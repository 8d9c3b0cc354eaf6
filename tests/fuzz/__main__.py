"""`make fuzz`: many mutants, a progress line, and a table of what became of them.

COUNT and SEED come from the environment. Files with a problem, and those that took the decoder down, are kept in
fuzz-out/; ``python -m tests.fuzz SEED NUMBER`` replays one.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from cxrgaze_ray.radiograph.decoding import Decoder
from tests.fuzz.corpus import corpus
from tests.fuzz.harness import LIMIT_S, Tally, judge, problems, run
from tests.fuzz.mutants import mutants

KEEP = Path("fuzz-out")


def main() -> int:
    """Run, print, and return 1 if a person must look at something."""
    if len(sys.argv) == 3:
        return replay(int(sys.argv[1]), int(sys.argv[2]))
    seed, count = int(os.environ.get("SEED") or time.time()), int(os.environ.get("COUNT") or 100_000)
    print(f"seed {seed}, {count} mutants", flush=True)
    start = time.monotonic()
    tally = run(mutants(corpus(), seed, range(count)), on_verdict=Line(count, start), keep=KEEP)
    print(f"\n{table(tally)}\n")
    print(f"{count} mutants in {time.monotonic() - start:.0f} s, seed {seed}")
    print(f"most memory of a decoding process {tally.peak_bytes / 2**20:.0f} MiB", end=", ")
    print(f"most addresses {tally.address_bytes / 2**20:.0f} MiB")
    print(f"{len(tally.named)} rows with a patient's name that a broken tag made a fact of")
    for one in tally.named[:10]:
        print(f"named: {one.mutant.index} {one.mutant.parent} {one.mutant.steps}")
    for slow in tally.slowest:
        print(
            f"slow: {slow.seconds:.1f} s, {slow.outcome}, {slow.mutant.index} {slow.mutant.parent} {slow.mutant.steps}"
        )
    found = problems(tally)
    for problem in found:
        print(f"PROBLEM: {problem}")
    return 1 if found else 0


def replay(seed: int, index: int) -> int:
    """Decode one mutant again."""
    (mutant,) = mutants(corpus(), seed, range(index, index + 1))
    with Decoder(timeout_s=LIMIT_S) as decoder:
        verdict = judge(decoder, mutant)
    print(mutant.parent, mutant.steps, verdict.outcome, f"{verdict.seconds:.2f} s", verdict.problem)
    return 1 if verdict.problem else 0


class Line:
    """One line that says how far it is, twice a second on a terminal and every ten seconds in a file."""

    def __init__(self, count: int, start: float) -> None:
        self._count, self._start = count, start
        self._last = 0.0
        self._every, self._end = (0.5, "\r") if sys.stdout.isatty() else (10.0, "\n")

    def __call__(self, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        rate = tally.total / max(1e-9, now - self._start)
        crashes = sum(tally.of("decoder_crash").values()) + sum(tally.of("decode_timeout").values())
        said = (
            f"{tally.total}/{self._count}, {rate:.0f}/s, {crashes} crashes or timeouts, {len(tally.problems)} problems"
        )
        print(said, end=self._end, flush=True)


def table(tally: Tally) -> str:
    """Return outcomes by corpus file, as text."""
    outcomes = sorted({outcome for _, outcome in tally.outcomes})
    parents = sorted({parent for parent, _ in tally.outcomes})
    width = max(map(len, parents))
    head = " " * width + "".join(f"  {outcome}" for outcome in outcomes)
    rows = [[tally.outcomes[parent, outcome] for outcome in outcomes] for parent in parents]
    rows.append([sum(column) for column in zip(*rows, strict=True)])
    lines = [
        parent.ljust(width)
        + "".join(f"  {count:>{len(outcome)}}" for count, outcome in zip(row, outcomes, strict=True))
        for parent, row in zip([*parents, "all"], rows, strict=True)
    ]
    return "\n".join([head, *lines])


if __name__ == "__main__":
    sys.exit(main())
