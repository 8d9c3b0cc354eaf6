"""A run is planned once, committed shard by shard with exactly its rows, and complete once it was audited."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cxrgaze_ray import schemas
from cxrgaze_ray.errors import ConfigError, RunConflict, UserError
from cxrgaze_ray.models.engines.engine import ENGINES
from cxrgaze_ray.models.settings import BOTH, Answer
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.schemas import ANSWERS, CLASSES, MANIFEST, PLAN, RESULT, STUDIES, SUMMARY
from cxrgaze_ray.scoring.runs import (
    CHUNK_ROWS,
    SHARD_ROWS,
    Request,
    Run,
    RunSpec,
    ScoreOptions,
    chunk_rows_on,
    contract,
    files_of,
    find_runs,
    make_plan,
    make_run_id,
    table_bytes,
)
from cxrgaze_ray.storage import LocalStore
from tests.answers import ONE, only

ROWS = SHARD_ROWS + 5
PIN = ModelPin(uri="/registry/m/versions/v0001", name="m", version="v0001", weights_sha256="aa", trained=True)
OPTIONS = ScoreOptions()
MADE_WITH = {"bundle_version": "v0001", "weights_sha256": "aa", "profile": "cxrgaze-v1", "engine": "cpu-float32"}
"""What every row says it was made with: see `make_spec`."""


def manifest(rows: int = ROWS) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "image_id": f"image-{i}",
                "subject_id": f"subject-{i // 4}",
                "study_id": f"study-{i // 2}",
                "uri": f"/archive/{i}.dcm",
                "size_bytes": 100 + i,
                "etag": f"{i:x}",
                "format": "dicom",
                "view_source": "unknown",
            }
            for i in range(rows)
        ],
        schema=MANIFEST,
    )


def make_spec(run_id: str = "0123456789abcdef", rows: int = ROWS, **changes: Any) -> RunSpec:
    values: dict[str, Any] = {
        "run_id": run_id,
        "request": Request(archive="/archive", model="m@champion", engine="auto"),
        "model": PIN,
        "profile": "cxrgaze-v1",
        "engine": "cpu-float32",
        "layout": "tree",
        "identities": "keep",
        "manifest_sha256": "ff",
        "plan_sha256": hashlib.sha256(table_bytes(make_plan(manifest(rows)))).hexdigest(),
        "rows": rows,
        "shards": -(-rows // SHARD_ROWS),
        "code_version": "0.1.0",
        "created_at": "2026-01-01T00:00:00.000000+00:00",
    }
    return RunSpec(**values | changes)


def results(plan: pa.Table, shard: int, mark: float = 0.5, predicts: tuple[Answer, ...] = BOTH) -> pa.Table:
    """Return made-up results of a shard; every fifth row failed."""
    rows = []
    for one in plan.filter(pc.equal(plan["shard"], shard)).to_pylist():
        row = MADE_WITH | {name: one[name] for name in ("shard", "position", "image_id", "subject_id", "study_id")}
        if one["position"] % 5 == 4:
            rows.append(row | {"status": "failed", "reason_code": "truncated", "detail": "Cut."})
        else:
            chances = {"p_normal": mark, "p_heart_failure": (1 - mark) / 2, "p_pneumonia": (1 - mark) / 2}
            maps = {"saliency_png": b"png", "logits": [1.0, 0.0, 0.0], "saliency_peak": 0.1}
            rows.append(only(predicts, row | {"status": "scored", "prediction": "normal"} | chances | maps))
    return pa.Table.from_pylist(rows, schema=RESULT)


def make_run(root: Path, rows: int = ROWS, run_id: str = "0123456789abcdef", **changes: Any) -> Run:
    return Run.create(LocalStore(str(root / run_id)), make_spec(run_id, rows, **changes), make_plan(manifest(rows)))


def make_finished(root: Path, rows: int = ROWS, **changes: Any) -> Run:
    run = make_run(root, rows, **changes)
    for shard in range(run.spec.shards):
        assert run.commit(shard, results(run.plan(), shard, predicts=run.spec.predicts))
    run.finish(2.0, run.spec.rows, "2026-01-01T00:01:00+00:00")
    return run


def files(run: Run) -> dict[str, bytes]:
    return {info.key: run.store.get(info.key) for info in run.store.list()}


def test_a_plan_numbers_shards_and_positions() -> None:
    plan = make_plan(manifest(2 * SHARD_ROWS + 3))
    assert plan.schema == PLAN
    assert plan["image_id"].to_pylist() == manifest(2 * SHARD_ROWS + 3)["image_id"].to_pylist()
    shards, positions = plan["shard"].to_pylist(), plan["position"].to_pylist()
    assert shards == [0] * SHARD_ROWS + [1] * SHARD_ROWS + [2] * 3
    assert positions == [*range(SHARD_ROWS), *range(SHARD_ROWS), 0, 1, 2]
    assert SHARD_ROWS % CHUNK_ROWS == 0


def test_a_gpu_gets_larger_chunks_that_cross_no_shard_either() -> None:
    assert {chunk_rows_on(engine.name) for engine in ENGINES if engine.device == "cpu"} == {CHUNK_ROWS}
    (larger,) = {chunk_rows_on(engine.name) for engine in ENGINES if engine.device == "cuda"}
    assert larger > CHUNK_ROWS
    assert SHARD_ROWS % larger == 0


@pytest.mark.parametrize(("limit", "rows"), [(None, ROWS), (3, 3), (SHARD_ROWS, SHARD_ROWS), (10 * ROWS, ROWS)])
def test_a_limit_takes_the_first_rows(limit: int | None, rows: int) -> None:
    assert make_plan(manifest(), limit)["image_id"].to_pylist() == [f"image-{i}" for i in range(rows)]


def test_the_run_id_follows_from_what_determines_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_id(sha: str = "m", pin: ModelPin = PIN, profile: str = "p", engine: str = "e", **options: Any) -> str:
        return make_run_id(sha, pin, profile, engine, ScoreOptions(**options))

    first = run_id()
    assert len(first) == 16
    assert int(first, 16) >= 0
    changed = [
        run_id(sha="n"),
        run_id(pin=PIN.model_copy(update={"weights_sha256": "bb"})),
        run_id(pin=PIN.model_copy(update={"temperature": 1.5})),
        run_id(profile="q"),
        run_id(engine="f"),
        run_id(view="all"),
        run_id(limit=7),
    ]
    monkeypatch.setattr(contract, "CHUNK_ROWS", 8)
    changed.append(run_id())
    monkeypatch.setattr(schemas, "SCHEMA_VERSION", 99)
    changed.append(run_id())
    assert len({first, *changed}) == 1 + len(changed)


def test_the_run_id_ignores_where_the_weights_lie() -> None:
    moved = PIN.model_copy(update={"uri": "s3://elsewhere", "name": "other", "version": "v0009", "trained": False})
    assert make_run_id("m", moved, "p", "e", OPTIONS) == make_run_id("m", PIN, "p", "e", OPTIONS)


def test_unknown_options_are_named() -> None:
    with pytest.raises(ConfigError, match="view"):
        ScoreOptions.build(view="lateral")
    with pytest.raises(ConfigError, match="views"):
        ScoreOptions.build(views="all")


def test_creating_a_run_again_changes_nothing(tmp_path: Path) -> None:
    first = make_run(tmp_path)
    before = files(first)
    again = make_run(tmp_path)
    assert files(again) == before
    assert (again.spec, again.plan()) == (first.spec, make_plan(manifest()))


def test_the_first_writer_of_a_run_wins(tmp_path: Path) -> None:
    make_run(tmp_path, created_at="2026-01-01T00:00:00+00:00")
    spec = make_spec(created_at="2026-02-02T00:00:00+00:00")
    late = Run.create(LocalStore(str(tmp_path / spec.run_id)), spec, make_plan(manifest(3)))
    assert late.spec.created_at.startswith("2026-01-01")
    assert late.plan().num_rows == ROWS


def test_a_plan_whose_driver_died_before_it_was_committed_is_written_again(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "0123456789abcdef"))
    store.put("plan.parquet", table_bytes(make_plan(manifest(3))))  # of another version of the code, say
    run = Run.create(store, make_spec(), make_plan(manifest()))
    assert hashlib.sha256(store.get("plan.parquet")).hexdigest() == run.spec.plan_sha256


def test_a_spec_reads_back_as_it_was_written(tmp_path: Path) -> None:
    request = Request(archive="s3://a", model="m@v2", engine="fast", options=ScoreOptions(view="all", limit=5))
    run = make_run(tmp_path, request=request)
    assert Run.open(run.store).spec == make_spec(request=request)


def test_a_run_starts_with_all_shards_pending(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert run.pending_shards() == [0, 1]
    assert [run.shard_rows(shard) for shard in (0, 1)] == [SHARD_ROWS, 5]
    assert run.success() is None
    assert run.summary().num_rows == 0
    assert run.summary().schema == SUMMARY


def test_a_committed_shard_is_read_in_the_order_of_the_plan(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    rows = results(run.plan(), 1)
    assert run.commit(1, rows.take([4, 0, 3, 1, 2]))
    assert run.read_shard(1).equals(rows)
    assert run.pending_shards() == [0]


def altered(rows: pa.Table, how: str) -> pa.Table:
    if how == "missing":
        return rows.slice(1)
    if how == "repeated":
        return pa.concat_tables([rows.slice(1), rows.slice(3, 1)])
    if how == "too many":
        return pa.concat_tables([rows, rows.slice(0, 1)])
    if how == "none":
        return rows.slice(0, 0)
    column = "shard" if how == "other shard" else "position"
    values = [0] * rows.num_rows if how == "other shard" else [1, 2, 3, 4, 5]
    return rows.set_column(rows.schema.names.index(column), column, pa.array(values, pa.int32()))


@pytest.mark.parametrize("how", ["missing", "repeated", "too many", "none", "other shard", "other positions"])
def test_wrong_rows_are_not_committed(tmp_path: Path, how: str) -> None:
    run = make_run(tmp_path)
    before = files(run)
    with pytest.raises(ValueError, match="shard 1"):
        run.commit(1, altered(results(run.plan(), 1), how))
    assert files(run) == before


def test_the_first_commit_of_a_shard_stands(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert run.commit(1, results(run.plan(), 1, 0.6))
    before = files(run)
    assert not run.commit(1, results(run.plan(), 1, 0.9))
    assert files(run) == before
    assert max(run.read_shard(1)["p_normal"].drop_null().to_pylist()) == pytest.approx(0.6)


def test_a_retry_wins_for_readers_and_keeps_the_first_file(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.commit(0, results(run.plan(), 0))
    for retry, mark in ((0, 0.6), (1, 0.7), (2, 0.8), (10, 0.9)):
        assert run.commit(1, results(run.plan(), 1, mark), retry)
        for table in (run.read_shard(1), list(run.tables(["p_normal"]))[1], run.summary().slice(SHARD_ROWS)):
            assert table["p_normal"][0].as_py() == pytest.approx(mark)
    assert run.live_shards()[1] == "results/shard-00001.r10.parquet"
    assert len([key for key in files(run) if "shard-00001" in key]) == 4
    assert run.summary().num_rows == ROWS


def test_a_retry_is_committed_once(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert run.commit(1, results(run.plan(), 1), 1)
    assert not run.commit(1, results(run.plan(), 1, 0.9), 1)


def test_files_that_are_no_shards_are_ignored(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for name in ("shard-00000.parquet.bak", "notes.txt", "shard-0.parquet", "x/shard-00000.parquet"):
        run.store.put(f"results/{name}", b"-")
    assert run.pending_shards() == [0, 1]


def test_finishing_sums_the_run_up(tmp_path: Path) -> None:
    run = make_finished(tmp_path)
    success = run.success()
    assert success is not None
    assert success.run_id == run.spec.run_id
    assert success.rows == ROWS
    assert success.counts == {"failed": 26, "scored": ROWS - 26}
    assert success.reasons == {"truncated": 26}
    assert success.predictions == {"normal": ROWS - 26}
    assert (success.seconds, success.images_per_second) == (2.0, ROWS / 2)
    assert [(one.name, one.rows) for one in success.shards] == [
        ("results/shard-00000.parquet", SHARD_ROWS),
        ("results/shard-00001.parquet", 5),
    ]
    assert all(hashlib.sha256(run.store.get(one.name)).hexdigest() == one.sha256 for one in success.shards)


def test_no_seconds_are_no_rate(tmp_path: Path) -> None:
    run = make_run(tmp_path, 5)
    run.commit(0, results(run.plan(), 0))
    assert run.finish(0.0, 0, "now").images_per_second == 0


def test_success_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    put = LocalStore.put

    def note(self: LocalStore, key: str, data: bytes) -> None:
        written.append(key)
        put(self, key, data)

    monkeypatch.setattr(LocalStore, "put", note)
    make_finished(tmp_path, 5)
    assert written[-1] == "SUCCESS.json"
    assert set(written[-3:]) == {"summary.parquet", "studies.parquet", "SUCCESS.json"}


def test_an_incomplete_run_does_not_finish(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.commit(0, results(run.plan(), 0))
    before = files(run)
    with pytest.raises(ValueError, match="planned inputs"):
        run.finish(1.0, 1, "now")
    assert files(run) == before


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no table"], ids=["empty", "cut", "other"])
def test_a_cut_shard_is_named_and_nothing_is_finished(tmp_path: Path, data: bytes) -> None:
    run = make_finished(tmp_path)
    run.reopen()
    run.store.put("results/shard-00001.parquet", data)
    before = files(run)
    readers: list[Callable[[], object]] = [
        lambda: run.finish(1.0, 1, "now"), lambda: run.read_shard(1), run.summary, lambda: list(run.committed()),
    ]  # fmt: skip
    for read in readers:
        with pytest.raises(RunConflict, match=r"results/shard-00001\.parquet is cut.* Remove it"):
            read()
    assert files(run) == before
    run.store.delete("results/shard-00001.parquet")
    assert run.pending_shards() == [1]


def test_a_cut_plan_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.store.put("plan.parquet", run.store.get("plan.parquet")[:50])
    with pytest.raises(RunConflict, match=r"plan\.parquet is cut.* --new"):
        run.plan()


@pytest.mark.parametrize("data", [b"", b'{"run_id": "0123', b"[]", b"\xff\xfe", b'{"run_id": "x"}'])
def test_an_unreadable_success_is_a_conflict_with_a_way_out(tmp_path: Path, data: bytes) -> None:
    run = make_finished(tmp_path, 5)
    before = run.success()
    run.store.put("SUCCESS.json", data)
    with pytest.raises(RunConflict, match=r"SUCCESS\.json can't be read\. Remove it and run") as told:
        run.success()
    assert "\n" not in str(told.value)
    run.reopen()
    assert run.finish(2.0, 5, "2026-01-01T00:01:00+00:00") == before


def test_rows_of_other_images_do_not_finish(tmp_path: Path) -> None:
    run = make_run(tmp_path, 5)
    rows = results(run.plan(), 0)
    swapped = [f"image-{i}" for i in (1, 0, 2, 3, 4)]
    run.commit(0, rows.set_column(rows.schema.names.index("image_id"), "image_id", pa.array(swapped)))
    with pytest.raises(ValueError, match="planned inputs"):
        run.finish(1.0, 1, "now")
    assert run.success() is None


def test_the_summary_has_every_row_and_no_maps(tmp_path: Path) -> None:
    run = make_finished(tmp_path)
    table = pq.read_table(io.BytesIO(run.store.get("summary.parquet")))
    assert table.schema.names == SUMMARY.names
    assert {"saliency_png", "logits", "affine"}.isdisjoint(table.schema.names)
    assert table["image_id"].to_pylist() == [f"image-{i}" for i in range(ROWS)]


def test_studies_are_means_over_their_scored_images(tmp_path: Path) -> None:
    run = make_run(tmp_path, 5)
    plan = run.plan()
    chances = [(0.2, 0.7, 0.1), (0.4, 0.3, 0.3), (0.1, 0.1, 0.8), None, None]
    rows = []
    for one, chance in zip(plan.to_pylist(), chances, strict=True):
        row = {name: one[name] for name in ("shard", "position", "image_id", "subject_id", "study_id")}
        if one["position"] == 4:
            row["study_id"] = None
        if chance is None:
            rows.append(row | {"status": "failed", "reason_code": "corrupt"})
        else:
            best = CLASSES[max(range(3), key=chance.__getitem__)]
            rows.append(
                row
                | {"status": "scored", "prediction": best}
                | dict(zip((f"p_{c}" for c in CLASSES), chance, strict=True))
            )
    run.commit(0, pa.Table.from_pylist(rows, schema=RESULT))
    run.finish(1.0, 3, "now")
    studies = pq.read_table(io.BytesIO(run.store.get("studies.parquet")))
    assert studies.schema == STUDIES
    first, second = studies.sort_by("study_id").to_pylist()
    assert (first["study_id"], first["subject_id"], first["images"], first["scored"]) == ("study-0", "subject-0", 2, 2)
    means = [first[f"p_{name}"] for name in CLASSES]
    assert means == pytest.approx([0.3, 0.5, 0.2])
    assert first["prediction"] == "heart_failure"
    # one of its two images failed: the mean is over the other
    assert (second["images"], second["scored"], second["prediction"]) == (2, 1, "pneumonia")
    assert second["p_pneumonia"] == pytest.approx(0.8)


@pytest.mark.parametrize("studies", [0, 3])
def test_studies_without_a_scored_image_have_no_prediction(tmp_path: Path, studies: int) -> None:
    run = make_run(tmp_path, 5)
    rows = results(run.plan(), 0).to_pylist()
    failed = [
        {name: row[name] for name in ("shard", "position", "image_id", "subject_id")}
        | {"study_id": row["study_id"] if studies else None, "status": "failed", "reason_code": "corrupt"}
        for row in rows
    ]
    run.commit(0, pa.Table.from_pylist(failed, schema=RESULT))
    run.finish(1.0, 0, "now")
    table = pq.read_table(io.BytesIO(run.store.get("studies.parquet"))).to_pylist()
    assert len(table) == studies
    assert [row["prediction"] for row in table] == [None] * studies
    assert all(row["p_normal"] is None or math.isnan(row["p_normal"]) for row in table)
    assert [row["scored"] for row in table] == [0] * studies


def test_reopening_makes_a_run_unfinished(tmp_path: Path) -> None:
    run = make_finished(tmp_path, 5)
    run.reopen()
    assert run.success() is None
    assert run.pending_shards() == []
    run.commit(0, results(run.plan(), 0, 0.9), 1)
    assert run.finish(1.0, 5, "now").shards[0].name == "results/shard-00000.r1.parquet"


def test_runs_are_found_in_the_order_of_planning(tmp_path: Path) -> None:
    for number, day in ((1, 3), (2, 1), (3, 2)):
        make_run(tmp_path, 5, f"{number:016x}", created_at=f"2026-01-0{day}T00:00:00+00:00")
    (tmp_path / "no-run").mkdir()
    (tmp_path / "file").write_bytes(b"-")
    assert [int(run.spec.run_id, 16) for run in find_runs(str(tmp_path))] == [2, 3, 1]


def test_there_are_no_runs_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert find_runs(str(tmp_path / "nowhere")) == []


def test_opening_what_is_no_run_is_a_conflict(tmp_path: Path) -> None:
    with pytest.raises(RunConflict, match="no run at"):
        Run.open(LocalStore(str(tmp_path)))


@pytest.mark.parametrize("change", [{"new_field": 1}, {"rows": "many"}, {"schema_version": 99}])
def test_opening_another_versions_run_is_a_conflict(tmp_path: Path, change: dict[str, object]) -> None:
    store = LocalStore(str(tmp_path))
    store.put("run.json", json.dumps(make_spec().model_dump() | change).encode())
    with pytest.raises(RunConflict, match="another version"):
        Run.open(store)


def test_a_damaged_run_json_is_a_conflict(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    store.put("run.json", b'{"run_id": ')
    with pytest.raises(RunConflict):
        Run.open(store)


def test_the_same_table_gives_the_same_bytes() -> None:
    assert table_bytes(make_plan(manifest())) == table_bytes(make_plan(manifest()))


def test_rows_that_were_written_before_oddities_are_read_and_have_none() -> None:
    affine = pa.struct([field for field in schemas.AFFINE if field.name != "orientation"])
    before = pa.schema(
        [
            field.with_type(affine) if field.name == "affine" else field
            for field in schemas.RESULT
            if field.name != "oddities"
        ]
    )
    placed = {"scale_y": 1.0, "scale_x": 1.0, "offset_y": 0.0, "offset_x": 0.0, "rows": 640, "columns": 512}
    old = pa.Table.from_pylist([{"shard": 0, "position": 0, "status": "scored", "affine": placed}], schema=before)
    (row,) = pq.read_table(io.BytesIO(table_bytes(old)), schema=schemas.RESULT).to_pylist()
    assert row["oddities"] is None
    assert schemas.Affine.of(row["affine"]).upright == (640, 512)


@pytest.mark.parametrize("predicts", ONE, ids=" ".join)
def test_a_run_of_one_answer_counts_its_rows_as_scored_all_the_same(
    tmp_path: Path, predicts: tuple[Answer, ...]
) -> None:
    run = make_finished(tmp_path, predicts=predicts)
    both = make_finished(tmp_path / "both")
    mine, theirs = (pq.read_table(io.BytesIO(one.store.get("studies.parquet"))) for one in (run, both))
    assert mine["scored"].equals(theirs["scored"])
    success, whole = run.success(), both.success()
    assert success is not None
    assert whole is not None
    assert success.counts == whole.counts
    if predicts == ("classes",):
        assert mine.equals(theirs)
    else:
        assert success.predictions == {}
        assert {mine[name].null_count for name in ANSWERS["classes"] if name in STUDIES.names} == {len(mine)}


def test_files_of_a_class_are_refused_where_no_class_is_predicted(tmp_path: Path) -> None:
    run = make_finished(tmp_path, predicts=("saliency",))
    with pytest.raises(UserError, match="m v0001 predicts saliency only") as refused:
        files_of(run, "pneumonia")
    assert refused.value.exit_code == 2
    assert files_of(run, "failed").num_rows == 26


def test_an_earlier_run_says_nothing_and_predicts_both(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    earlier = json.loads(run.store.get("run.json"))
    assert earlier.pop("predicts") == ["classes", "saliency"]
    run.store.put("run.json", json.dumps(earlier).encode())
    assert Run.open(run.store).spec.predicts == BOTH
