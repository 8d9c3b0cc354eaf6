"""The driver holds its lease from before the first row until the run is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cxrgaze_ray.errors import BundleError, RunConflict, UserError
from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS, GazeNetConfig
from cxrgaze_ray.models.settings import architecture
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.scoring import driver, gather
from cxrgaze_ray.scoring.driver import Outcome, score_archive
from cxrgaze_ray.scoring.estimate import estimate
from cxrgaze_ray.scoring.runs import Request, Run, find_runs
from cxrgaze_ray.storage import LocalStore
from tests.unit.scoring.test_gather import Line

Score = Callable[..., Outcome]


@pytest.fixture
def score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    """Return `score_archive` of a small archive, with a pipeline that makes rows up and no cluster."""
    ledger = Registry(LocalStore(str(tmp_path / "registry")))
    ledger.publish(make_bundle(build(PRESETS["tiny"], 1), "m", trained=False))
    ledger.promote("m", "v0001")
    (tmp_path / "archive").mkdir()
    for number in range(7):
        (tmp_path / "archive" / f"{number}.jpg").write_bytes(b"\xff\xd8 a radiograph")

    @contextmanager
    def model(*_: Any) -> Iterator[Any]:
        yield SimpleNamespace(application="app", replicas=1, warm=lambda *_: None, plan_engine=lambda *_: "cpu")

    @contextmanager
    def connect() -> Iterator[Any]:
        yield SimpleNamespace(cpus=lambda: 4, free_cpus=lambda: 4, gpus=lambda: 0)

    monkeypatch.setattr(driver, "batch_model", model)
    request = Request(archive=str(tmp_path / "archive"), model="m@champion", engine="float32")

    def score(connect: Any = connect, **options: Any) -> Outcome:
        monkeypatch.setattr(gather, "result_blocks", Line(iter))
        return score_archive(request, str(tmp_path / "out"), str(tmp_path / "registry"), connect, **options)

    return score


@pytest.fixture
def finished_with(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Note which leases of a run are released whenever it is finished."""
    found: list[set[str]] = []
    finish = Run.finish

    def note(self: Run, *arguments: Any) -> Any:
        found.append({info.key[6:] for info in self.store.list("lease/") if not info.key.endswith("heartbeat")})
        return finish(self, *arguments)

    monkeypatch.setattr(Run, "finish", note)
    return found


def only_run(tmp_path: Path) -> Run:
    (run,) = find_runs(str(tmp_path / "out"))
    return run


def test_a_run_is_finished_before_its_lease_is_released(
    score: Score, finished_with: list[set[str]], tmp_path: Path
) -> None:
    first = score()
    assert finished_with == [{"00000001.json"}]
    again = score(retry_failed=True)
    assert finished_with[1] == {"00000001.json", "00000001.released", "00000002.json"}
    only_run(tmp_path).reopen()
    ended = score()
    assert finished_with[2] >= {"00000002.released", "00000003.json"}
    assert "00000003.released" not in finished_with[2]
    assert only_run(tmp_path).store.exists("lease/00000003.released")
    names = [one.success.shards[0].name for one in (first, again, ended)]
    assert names == ["results/shard-00000.parquet", *2 * ["results/shard-00000.r1.parquet"]]


def test_the_figures_of_every_driver_are_summed(score: Score, tmp_path: Path) -> None:
    first = score()
    assert first.success.images_per_second > 0
    again = score(retry_failed=True)
    assert again.success.seconds >= first.success.seconds
    only_run(tmp_path).reopen()
    ended = score()
    assert (ended.success.seconds, ended.success.images_per_second) == (
        again.success.seconds,
        again.success.images_per_second,
    )


def test_a_driver_that_was_taken_over_after_its_last_commit_finishes_nothing(
    score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Run.commit

    def overtaken(self: Run, *arguments: Any) -> bool:
        done = commit(self, *arguments)
        self.store.put("lease/00000002.json", b"another driver")
        return done

    monkeypatch.setattr(Run, "commit", overtaken)
    with pytest.raises(RunConflict, match="took over this run"):
        score()
    assert only_run(tmp_path).pending_shards() == []
    assert only_run(tmp_path).success() is None


def no_cluster() -> Any:
    raise AssertionError("there is nothing to score")


def test_failed_rows_are_scored_again_in_their_own_run_whatever_moved_since(score: Score, tmp_path: Path) -> None:
    first, said = score(), list[str]()
    assert first.failed > 0
    (tmp_path / "archive" / "new.jpg").write_bytes(b"\xff\xd8 a radiograph")
    ledger = Registry(LocalStore(str(tmp_path / "registry")))
    ledger.promote("m", ledger.publish(make_bundle(build(PRESETS["tiny"], 2), "m", trained=False)).version)
    again = score(retry_failed=True, say=said.append)
    assert again.run.spec == first.run.spec == only_run(tmp_path).spec
    assert [shard.name for shard in again.success.shards] == ["results/shard-00000.r1.parquet"]
    assert said[1].startswith(
        f"Scoring the failed rows of run {first.run.spec.run_id} again, with m v0001 and the files"
    )


def test_without_the_flag_a_moved_archive_or_alias_is_a_new_run_that_says_why(score: Score, tmp_path: Path) -> None:
    said, runs = list[str](), [score().run.spec.run_id]
    (tmp_path / "archive" / "new.jpg").write_bytes(b"\xff\xd8 a radiograph")
    runs.append(score(say=said.append).run.spec.run_id)
    ledger = Registry(LocalStore(str(tmp_path / "registry")))
    ledger.promote("m", ledger.publish(make_bundle(build(PRESETS["tiny"], 2), "m", trained=False)).version)
    runs.append(score(say=said.append).run.spec.run_id)
    assert len(set(runs)) == 3
    told = [one for one in said if "is complete, but" in one]
    assert told == [
        f"Run {runs[0]} is complete, but the archive holds other files now: all is scored in a new run. "
        "--not-in scores only what is new.",
        f"Run {runs[1]} is complete, but m@champion is v0002 now, not v0001: all is scored in a new run.",
    ]


def test_the_last_run_of_a_command_is_the_one_whose_rows_are_scored_again(score: Score) -> None:
    first, second = score(), score(new=True)
    assert first.run.spec.run_id != second.run.spec.run_id
    assert score(retry_failed=True).run.spec.run_id == second.run.spec.run_id


def test_a_run_without_failed_rows_has_none_to_score_again(score: Score, tmp_path: Path) -> None:
    score()
    run = only_run(tmp_path)
    sound = run.read_shard(0).filter(pc.equal(run.read_shard(0)["status"], "scored")).slice(0, 1)
    rows = [sound.set_column(1, "position", pa.array([place], pa.int32())) for place in range(run.spec.rows)]
    names = run.plan()["image_id"].to_pylist()
    rows = [row.set_column(2, "image_id", pa.array([name])) for row, name in zip(rows, names, strict=True)]
    run.commit(0, pa.concat_tables(rows), retry=1)
    run.finish(1.0, 7, "2026-01-01T00:00:00+00:00")
    again = score(retry_failed=True, connect=no_cluster)
    assert (again.already_complete, again.failed) == (True, 0)


def test_where_no_run_is_no_failed_row_is_and_no_run_is_begun(score: Score, tmp_path: Path) -> None:
    with pytest.raises(RunConflict, match=r"There is no run of this command under .*cxrgaze runs list"):
        score(retry_failed=True, connect=no_cluster)
    with pytest.raises(UserError, match="either --new or --retry-failed"):
        score(retry_failed=True, new=True, connect=no_cluster)
    assert not (tmp_path / "out").exists()


def test_a_model_that_reads_gaze_is_refused_before_anything_is_listed(
    score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GazeNetConfig, "needs_gaze", True)
    monkeypatch.setattr("cxrgaze_ray.scoring.planning.list_archive", lambda *_, **__: pytest.fail("it is listed"))
    with pytest.raises(BundleError, match="m reads the reader's gaze beside the image") as refused:
        score(lambda: pytest.fail("Ray is started"))
    assert refused.value.exit_code == 2
    assert "cxrgaze evaluate STORE" in refused.value.hint
    assert not find_runs(str(tmp_path / "out"))
    request = Request(archive=str(tmp_path / "archive"), model="m@champion", engine="float32")
    with pytest.raises(BundleError, match="reads the reader's gaze"):
        estimate(request, str(tmp_path / "out"), str(tmp_path / "registry"))


def test_a_run_says_what_its_model_predicts(score: Score, tmp_path: Path) -> None:
    ledger, said = Registry(LocalStore(str(tmp_path / "registry"))), list[str]()
    ledger.publish(make_bundle(build(architecture("dnet201", "tiny"), 1), "m", trained=False))
    ledger.promote("m", "v0002")
    assert score(say=said.append).run.spec.predicts == ("classes",)
    assert "The model predicts classes only." in said
