"""Every mutant through the real decoder, in its own process, under its own limits; what came of each."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.decoding import Decoded, Decoder
from cxrgaze_ray.radiograph.decoding.client import MEMORY_BYTES
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.schemas import FACT_FIELDS, HEIGHT, WIDTH, Reason
from tests.dicom_files import CANARY
from tests.fuzz.mutants import Mutant

LIMIT_S = 20.0
"""Time for one mutant, in seconds."""

GRACE_S = 15.0
"""On top of it, to end a process and start another on a machine that is busy."""

SCORED = "decoded"
TAKEN_DOWN = (Reason.DECODER_CRASH, Reason.DECODE_TIMEOUT)
_FACTS = pa.schema(list(FACT_FIELDS))


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes
    ----------
    mutant
        Which; without its bytes if nothing is wrong.
    outcome
        ``decoded``, or the reason.
    seconds
        How long it took.
    problem
        What is wrong with our answer; empty if nothing is.
    named
        Whether a fact holds the patient's name: a flipped bit may make a manufacturer of it.
    """

    mutant: Mutant
    outcome: str
    seconds: float
    problem: str = ""
    named: bool = False


@dataclass
class Tally:
    """Outcomes so far, over all threads."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[Verdict] = field(default_factory=list)
    slowest: list[Verdict] = field(default_factory=list)
    peak_bytes: int = 0
    address_bytes: int = 0
    named: list[Verdict] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many mutants were judged."""
        return sum(self.outcomes.values())

    def add(self, verdict: Verdict, decoder: Decoder) -> None:
        """Count a verdict, and look at the memory that its process has taken at most."""
        self.outcomes[verdict.mutant.parent, verdict.outcome] += 1
        self.problems += [verdict] if verdict.problem else []
        self.named += [verdict] if verdict.named else []
        self.slowest = sorted([*self.slowest, verdict], key=lambda one: -one.seconds)[:5]
        resident, address = peaks(decoder)
        self.peak_bytes = max(self.peak_bytes, resident)
        self.address_bytes = max(self.address_bytes, address)

    def of(self, outcome: str) -> dict[str, int]:
        """Return how often an outcome came, by corpus file."""
        return {parent: count for (parent, found), count in self.outcomes.items() if found == outcome}


def run(
    mutants: Iterable[Mutant],
    *,
    decoders: int = 2,
    on_verdict: Callable[[Tally], None] = lambda _: None,
    keep: Path | None = None,
) -> Tally:
    """Decode mutants in several processes.

    Parameters
    ----------
    mutants
        In any number: they are made as they are needed.
    decoders
        Processes at a time.
    on_verdict
        Is told after each mutant, one at a time.
    keep
        Folder for files with a problem, crashes and timeouts; None keeps none.
    """
    tally, source, lock = Tally(), iter(mutants), threading.Lock()
    with ThreadPoolExecutor(decoders) as pool:
        for worker in [pool.submit(_work, source, number, tally, lock, on_verdict, keep) for number in range(decoders)]:
            worker.result()
    return tally


def _work(
    source: Iterator[Mutant],
    number: int,
    tally: Tally,
    lock: threading.Lock,
    on_verdict: Callable[[Tally], None],
    keep: Path | None,
) -> None:
    with Decoder(timeout_s=LIMIT_S, reading=Reading(reduced=number % 2 == 1)) as decoder:
        while True:
            with lock:
                mutant = next(source, None)
            if mutant is None:
                return
            verdict = judge(decoder, mutant)
            with lock:
                if keep is not None and (verdict.problem or verdict.outcome in TAKEN_DOWN):
                    _keep(verdict, keep)
                tally.add(replace(verdict, mutant=replace(mutant, data=b"")), decoder)
                on_verdict(tally)


def judge(decoder: Decoder, mutant: Mutant) -> Verdict:
    """Decode one mutant, and say what is wrong with the answer."""
    start, facts = time.perf_counter(), {}
    try:
        decoded = decoder.decode(mutant.data)
        facts = decoded.facts
        outcome, problem = SCORED, _problem_of_image(decoded)
    except RadiographError as error:
        facts = error.facts
        outcome, problem = str(error.reason), _problem_of_error(error)
    except Exception as error:  # a bug: counted, reported, and the next one goes on
        outcome, problem = "BUG", repr(error)
    seconds = time.perf_counter() - start
    if seconds > LIMIT_S + GRACE_S:
        problem = problem or f"took {seconds:.1f} s"
    return Verdict(mutant, outcome, seconds, problem, named=CANARY in str(facts))


def _problem_of_image(decoded: Decoded) -> str:
    if decoded.pixels.dtype != np.uint16 or decoded.pixels.shape != (HEIGHT, WIDTH):
        return f"{decoded.pixels.dtype} {decoded.pixels.shape}"
    if not (decoded.affine.rows > 0 and decoded.affine.columns > 0):
        return str(decoded.affine)
    return _problem_of_facts(decoded.facts)


def _problem_of_error(error: RadiographError) -> str:
    if error.reason not in set(Reason):
        return f"{error.reason} is no reason"
    if CANARY in error.message or CANARY.encode() in repr(error).encode():
        return "the message names the patient"
    return _problem_of_facts(error.facts)


def _problem_of_facts(facts: dict[str, object]) -> str:
    """Say why facts would not fit into a row."""
    try:
        pa.Table.from_pylist([{name: facts.get(name) for name in _FACTS.names}], schema=_FACTS)
    except (pa.ArrowException, UnicodeError, TypeError, ValueError) as error:
        return f"no row can hold the facts: {type(error).__name__}"
    return (
        "a fact of endless length"
        if any(isinstance(value, str) and len(value) > 80 for value in facts.values())
        else ""
    )


def _keep(verdict: Verdict, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{verdict.mutant.index}-{verdict.mutant.parent}-{re.sub('[^a-z_]', '', verdict.outcome.lower())}"
    (folder / name).write_bytes(verdict.mutant.data)


def peaks(decoder: Decoder) -> tuple[int, int]:
    """Return the most memory and the most address space that the decoder's process has had, in bytes."""
    child = decoder._child
    try:
        status = Path(f"/proc/{child.process.pid}/status").read_text() if child else ""
    except OSError:
        return 0, 0
    found = dict(re.findall(r"(VmHWM|VmPeak):\s+(\d+) kB", status))
    return 1024 * int(found.get("VmHWM", 0)), 1024 * int(found.get("VmPeak", 0))


def problems(tally: Tally) -> list[str]:
    """Return what a person must look at, as sentences; empty if all is well."""
    found = [
        f"{one.mutant.index} ({one.mutant.parent}, {', '.join(one.mutant.steps)}): {one.problem}"
        for one in tally.problems
    ]
    if tally.address_bytes > MEMORY_BYTES:
        found.append(f"a process had {tally.address_bytes / 2**30:.1f} GiB of addresses")
    return found
