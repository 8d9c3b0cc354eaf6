"""Whatever a file holds, its decoding ends in time and in bounds with an image or with one of our reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.schemas import Reason
from tests.fuzz.corpus import corpus
from tests.fuzz.harness import SCORED, problems, run
from tests.fuzz.mutants import mutants

SEED, COUNT = 20260, 3000


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return corpus()


def test_every_corpus_file_is_sound(files: dict[str, bytes]) -> None:
    with Decoder() as decoder:
        for data in files.values():
            assert decoder.decode(data).pixels.any()


def test_a_mutant_is_named_by_seed_and_number(files: dict[str, bytes]) -> None:
    several = list(mutants(files, 5, range(40)))
    assert several[17:18] == list(mutants(files, 5, range(17, 18)))
    assert several != list(mutants(files, 6, range(40)))
    assert len({mutant.data for mutant in several}) > 30


def test_every_mutant_gets_an_image_or_a_reason(files: dict[str, bytes], tmp_path: Path) -> None:
    tally = run(mutants(files, SEED, range(COUNT)), keep=tmp_path)
    assert problems(tally) == []
    assert tally.total == COUNT
    assert not tally.of(Reason.DECODE_TIMEOUT)
    assert sum(tally.of(SCORED).values()) > COUNT / 10  # mutants are not all refused at the door
    assert {outcome for _, outcome in tally.outcomes} >= {Reason.CORRUPT, Reason.TRUNCATED, Reason.TOO_LARGE}
