"""Rows that come in any order land in their shards; a shard is committed when it is full, and few are held."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cxrgaze_ray import telemetry
from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.errors import Interrupted, RunConflict
from cxrgaze_ray.scoring import gather
from cxrgaze_ray.scoring.gather import MAX_COMMITS, Gatherer, Progress
from cxrgaze_ray.scoring.pipeline import Pools
from cxrgaze_ray.scoring.runs import CHUNK_ROWS, SHARD_ROWS, Run
from cxrgaze_ray.storage.lease import Lease
from cxrgaze_ray.telemetry import Metric
from cxrgaze_ray.telemetry.table import IMAGES, SHARD_COMMITS
from tests.unit.scoring.test_runs import make_finished, make_run, results

Wanted = dict[int, list[int]]
Order = Callable[[list[pa.Table]], Iterator[pa.Table]]

SHARDS = 6
ROWS = SHARDS * SHARD_ROWS - 5
MAP_BYTES = 2**14


def chunks(run: Run, wanted: Wanted, mark: float = 0.5, *, failed: bool = True) -> list[pa.Table]:
    """Return made-up rows of the wanted positions, a chunk a table, in the plan's order."""
    found = []
    for shard, positions in wanted.items():
        rows = results(run.plan(), shard, mark)
        if not failed:
            rows = rows.take([position - position % 5 for position in range(len(rows))])  # as a sound neighbour's
            rows = rows.set_column(1, "position", pa.array(range(len(rows)), pa.int32()))
        for first in range(0, len(rows), CHUNK_ROWS):
            place = [position for position in positions if first <= position < first + CHUNK_ROWS]
            found += [rows.take(place)] if place else []
    return found


class Line:
    """Stands for the pipeline: yields made-up rows in an order of the test's; may look around before each chunk."""

    def __init__(self, order: Order, look: Callable[[pa.Table], None] = lambda _: None, **made: Any) -> None:
        self._order, self._look, self._made = order, look, made
        self.wanted: Wanted = {}

    def __call__(self, run: Run, wanted: Wanted, *_: object) -> Iterator[pa.Table]:
        self.wanted = wanted
        for chunk in self._order(chunks(run, wanted, **self._made)):
            self._look(chunk)
            yield chunk


def work(
    run: Run,
    line: Line,
    monkeypatch: pytest.MonkeyPatch,
    *,
    retry_failed: bool = False,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    monkeypatch.setattr(gather, "result_blocks", line)
    with Lease(run.store) as lease:
        gatherer = Gatherer(run, Identities(), lease, stop or threading.Event(), on_progress)
        gatherer.work("application", Pools(1), retry_failed=retry_failed)


def shuffled(seed: int) -> Order:
    def order(rows: list[pa.Table]) -> Iterator[pa.Table]:
        return iter(random.Random(seed).sample(rows, len(rows)))

    return order


def window(width: int) -> Order:
    """Yield as a pipeline of so many chunks in flight does at its worst: all but one of them are stuck.

    Stuck is the first chunk of a shard, so that each one keeps another shard from being full.
    """

    def order(rows: list[pa.Table]) -> Iterator[pa.Table]:
        stuck: list[pa.Table] = []
        for chunk in rows:
            if len(stuck) < width - 1 and chunk["position"][0].as_py() == 0:
                stuck.append(chunk)
            else:
                yield chunk
        yield from stuck

    return order


@pytest.mark.parametrize("seed", range(3))
def test_chunks_out_of_order_land_in_their_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    run = make_run(tmp_path, ROWS)
    work(run, Line(shuffled(seed)), monkeypatch)
    assert run.pending_shards() == []
    for shard in range(SHARDS):
        assert run.read_shard(shard).equals(results(run.plan(), shard))


def test_what_is_counted_has_begun_at_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus's rates leave out what a series begins with: all that a run of one shard has to tell."""
    progress = {IMAGES, SHARD_COMMITS}
    told: list[tuple[str, Metric, frozenset[tuple[str, str]]]] = []

    def noted(what: str) -> Callable[..., None]:
        return lambda metric, _=1.0, **labels: told.append((what, metric, frozenset(labels.items())))

    for what in ("begin", "record"):
        monkeypatch.setattr(telemetry, what, noted(what))
    work(make_run(tmp_path, ROWS), Line(iter), monkeypatch)
    counted = [place for place, (what, metric, _) in enumerate(told) if what == "record" and metric in progress]
    assert {told[place][1] for place in counted} == progress
    for place in counted:
        assert ("begin", *told[place][1:]) in told[:place]


def test_blocks_of_several_shards_are_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def merged(rows: list[pa.Table]) -> Iterator[pa.Table]:
        mixed = list(shuffled(4)(rows))
        return (pa.concat_tables(mixed[first : first + 3]) for first in range(0, len(mixed), 3))

    run = make_run(tmp_path, ROWS)
    work(run, Line(merged), monkeypatch)
    assert [run.read_shard(shard).equals(results(run.plan(), shard)) for shard in range(SHARDS)] == [True] * SHARDS


def test_a_shard_is_committed_when_it_is_full_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, lacking = make_run(tmp_path, ROWS), {shard: set(range(SHARD_ROWS)) for shard in range(SHARDS)}
    lacking[SHARDS - 1] = set(range(ROWS % SHARD_ROWS))
    committed: list[set[int]] = []

    def look(chunk: pa.Table) -> None:
        committed.append(set(run.live_shards()))
        assert committed[-1] <= {shard for shard, rows in lacking.items() if not rows}
        for row in chunk.select(["shard", "position"]).to_pylist():
            lacking[row["shard"]].remove(row["position"])

    work(run, Line(shuffled(1), look), monkeypatch)
    assert committed[0] == set()
    assert set(run.live_shards()) == set(range(SHARDS))


@pytest.mark.parametrize("width", [1, 3, 5])
def test_as_many_shards_are_open_as_chunks_are_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    told: list[int] = []
    run = make_run(tmp_path, ROWS)
    work(run, Line(window(width)), monkeypatch, on_progress=lambda progress: told.append(progress.open_shards))
    assert max(told) == width
    assert told[-1] == 0


def test_a_slow_store_holds_up_the_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full shards that wait to be written are bounded too: the next chunk is not asked for."""
    run, waiting, taken, commit = make_run(tmp_path, 2 * MAX_COMMITS * SHARD_ROWS), list[int](), list[int](), Run.commit

    def slow(self: Run, *arguments: Any) -> bool:
        time.sleep(0.02)
        done = commit(self, *arguments)
        taken.append(1)
        return done

    def look(chunk: pa.Table) -> None:
        waiting.append(chunk["shard"][0].as_py() - len(taken))

    monkeypatch.setattr(Run, "commit", slow)
    work(run, Line(iter, look), monkeypatch)
    assert 0 < max(waiting) <= MAX_COMMITS
    assert run.pending_shards() == []


def test_after_a_stop_only_open_shards_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, stop = make_run(tmp_path, ROWS), threading.Event()

    def look(chunk: pa.Table) -> None:
        if chunk["shard"][0].as_py() == 2:
            stop.set()  # shards 0 and 1 were begun

    with pytest.raises(Interrupted, match=f"256 of {ROWS} rows are committed"):
        work(run, Line(window(2), look), monkeypatch, stop=stop)
    assert list(run.live_shards()) == [0, 1]


def with_maps(run: Run, noise: random.Random) -> None:
    """Commit every shard with maps that are not small."""
    for shard in range(run.spec.shards):
        rows = results(run.plan(), shard)
        maps = [noise.randbytes(MAP_BYTES) if png else None for png in rows["saliency_png"].to_pylist()]
        index = rows.schema.get_field_index("saliency_png")
        run.commit(shard, rows.set_column(index, "saliency_png", pa.array(maps, pa.binary())))


def test_scoring_failed_rows_again_holds_open_shards_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, ROWS)
    with_maps(run, random.Random(0))
    run.finish(1.0, ROWS, "now")
    before = {shard: run.read_shard(shard) for shard in range(SHARDS)}
    shard_bytes = max(table.nbytes for table in before.values())
    held: list[int] = []
    base = pa.total_allocated_bytes()

    def look(chunk: pa.Table) -> None:
        held.append(pa.total_allocated_bytes() - base)

    line = Line(iter, look, mark=0.9, failed=False)
    monkeypatch.setattr(gather, "MAX_COMMITS", 0)  # so that each look finds the open shards and nothing else
    work(run, line, monkeypatch, retry_failed=True)
    assert line.wanted == {shard: list(range(4, len(table), 5)) for shard, table in before.items()}
    assert max(held) < 1.5 * shard_bytes, "the rows that stand are read when their shard is committed"
    for shard, table in before.items():
        stands, again = table.to_pylist(), run.read_shard(shard).to_pylist()
        scored = [row for row in stands if row["status"] == "scored"]
        assert [row for row in again if row["position"] % 5 != 4] == scored
        assert all(row["p_normal"] == pytest.approx(0.9) for row in again if row["position"] % 5 == 4)
    assert set(run.live_shards().values()) == {f"results/shard-{shard:05d}.r1.parquet" for shard in range(SHARDS)}


def test_rows_that_fail_again_can_be_scored_a_third_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, told = make_finished(tmp_path, ROWS), list[Progress]()
    for retry in (1, 2):
        work(run, Line(shuffled(retry)), monkeypatch, retry_failed=True, on_progress=told.append)
        assert set(run.live_shards()) == set(range(SHARDS))
        assert all(f".r{retry}." in key for key in run.live_shards().values())
    assert told[-1].committed == told[-1].done == ROWS
    assert told[-1].counts == {"failed": pc.sum(pc.equal(run.summary()["status"], "failed")).as_py()}
    run.finish(1.0, ROWS, "now")


def test_a_cut_shard_stops_scoring_failed_rows_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_finished(tmp_path, ROWS)
    run.store.put("results/shard-00003.parquet", b"PAR1")
    with pytest.raises(RunConflict, match="shard-00003"):
        work(run, Line(iter), monkeypatch, retry_failed=True)
    assert run.success() is not None, "a run that nothing was done to stays finished"
