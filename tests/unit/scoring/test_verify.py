"""A run proves itself complete, or says what is not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cxrgaze_ray.models.settings import Answer
from cxrgaze_ray.schemas import ANSWERS, RESULT
from cxrgaze_ray.scoring.runs import Run, table_bytes, verify_run
from tests.answers import ONE
from tests.unit.scoring.test_runs import make_finished, make_run, results

DONE = "SUCCESS.json"
RUN_ID = b"0123456789abcdef"
FIRST = "results/shard-00000.parquet"
RETRIED = "results/shard-00000.r1.parquet"
BEYOND = "results/shard-00009.parquet"


def change_rows(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[Run], None]:
    """Rewrite the first shard's rows."""

    def rewrite(run: Run) -> None:
        rows = change(pq.read_table(io.BytesIO(run.store.get(FIRST))).to_pylist())
        run.store.put(FIRST, table_bytes(pa.Table.from_pylist(rows, schema=RESULT)))

    return rewrite


def edit_json(old: bytes, new: bytes, file: str = "SUCCESS.json") -> Callable[[Run], None]:
    def rewrite(run: Run) -> None:
        data = run.store.get(file)
        assert old in data
        run.store.put(file, data.replace(old, new))

    return rewrite


def edit_spec(old: bytes, new: bytes) -> Callable[[Run], None]:
    return edit_json(old, new, "run.json")


def put(file: str, data: bytes) -> Callable[[Run], None]:
    return lambda run: run.store.put(file, data)


def cut(file: str) -> Callable[[Run], None]:
    return lambda run: run.store.put(file, run.store.get(file)[:99])


def reseal(run: Run, **changes: Any) -> None:
    """Edit SUCCESS.json as one does who knows how its seal is made."""
    success = run.success()
    assert success is not None
    run.store.put("SUCCESS.json", success.model_copy(update=changes).sealed().model_dump_json().encode())


def move(run: Run) -> None:
    """Copy another run's folder over this one, as a careless synchronisation does."""
    other = make_finished(Path(run.store.uri).parent / "elsewhere", run_id="fedcba9876543210")
    for info in other.store.list():
        run.store.put(info.key, other.store.get(info.key))


def edit_summary(run: Run) -> None:
    table = pq.read_table(io.BytesIO(run.store.get("summary.parquet")))
    wrong = pa.array(["pneumonia"] * table.num_rows)
    run.store.put(
        "summary.parquet",
        table_bytes(table.set_column(table.schema.get_field_index("prediction"), "prediction", wrong)),
    )


def edit_plan(run: Run) -> None:
    table = run.plan()
    index = table.schema.get_field_index("size_bytes")
    run.store.put("plan.parquet", table_bytes(table.set_column(index, "size_bytes", pc.add(table["size_bytes"], 1))))


def with_(rows: list[dict[str, Any]], index: int, **values: Any) -> list[dict[str, Any]]:
    return [row | values if number == index else row for number, row in enumerate(rows)]


def unsealed(run: Run, *left_out: str) -> bytes:
    """Return SUCCESS.json without its seal, and without other fields."""
    success = run.success()
    assert success is not None
    return success.model_dump_json(exclude={"seal", *left_out}).encode()


DAMAGES: dict[str, tuple[Callable[[Run], None], str, str]] = {
    "a shard is deleted": (lambda run: run.store.delete(FIRST), FIRST, "missing"),
    "a shard is cut": (cut(FIRST), FIRST, "can't be read"),
    "a score is edited": (change_rows(lambda rows: with_(rows, 0, prediction="pneumonia")), FIRST, "changed after"),
    "a row is dropped": (change_rows(lambda rows: rows[1:]), FIRST, "1 planned inputs have no row"),
    "a row is doubled": (change_rows(lambda rows: [rows[0], *rows]), FIRST, "1 rows are twice"),
    "rows are swapped": (change_rows(lambda rows: rows[::-1]), FIRST, "not in the plan's order"),
    "a status is edited": (change_rows(lambda rows: with_(rows, 4, status="scored")), FIRST, "status is not the one"),
    "a probability is edited": (change_rows(lambda rows: with_(rows, 0, p_normal=0.9)), FIRST, "do not sum to 1"),
    "a map is gone": (change_rows(lambda rows: with_(rows, 0, saliency_png=None)), FIRST, "no map"),
    "a newer file was added": (lambda run: run.store.put(RETRIED, run.store.get(FIRST)), RETRIED, "does not name"),
    "a shard beyond the plan": (lambda run: run.store.put(BEYOND, b"x"), BEYOND, "no such shard"),
    "a stray file": (lambda run: run.store.put("results/notes.txt", b"x"), "results/notes.txt", "no such shard"),
    "success is deleted": (lambda run: run.store.delete(DONE), DONE, "not finished: 0 shards"),
    "a count is edited": (edit_json(b'"truncated": 26', b'"truncated": 25'), DONE, "by reason_code"),
    "the rows are edited": (edit_json(b'"rows": 133', b'"rows": 132'), DONE, "number of rows"),
    "success is cut": (cut(DONE), DONE, "cut"),
    "success is empty": (put(DONE, b""), DONE, "cut"),
    "success is of another run": (edit_json(RUN_ID, b"fedcba9876543210"), DONE, "of another run"),
    "success is forged": (lambda run: reseal(run, run_id="fedcba9876543210"), DONE, "of another run"),
    "the rate is edited": (edit_json(b'_second": 66.5', b'_second": 99.5'), DONE, "changed after"),
    "the time is edited": (edit_json(b'"seconds": 2.0', b'"seconds": 1.0'), DONE, "changed after"),
    "the end is edited": (edit_json(b"2026-01-01T00:01", b"2026-01-01T00:02"), DONE, "changed after"),
    "the seal is removed": (lambda run: put(DONE, unsealed(run))(run), DONE, "changed after"),
    "the weights' hash is edited": (edit_spec(b'"aa"', b'"bb"'), FIRST, "weights_sha256 is not"),
    "the version is edited": (edit_spec(b'"v0001"', b'"v0002"'), FIRST, "bundle_version is not"),
    "the engine is edited": (edit_spec(b'"cpu-float32"', b'"cuda-fast"'), FIRST, "engine is not"),
    "the profile is edited": (edit_spec(b'"cxrgaze-v1"', b'"cxrgaze-v2"'), FIRST, "profile is not"),
    "the run's id is edited": (edit_spec(RUN_ID, b"fedcba9876543210"), "run.json", "does not have the name"),
    "the archive is edited": (edit_spec(b'"/archive"', b'"/another"'), "run.json", "changed after"),
    "the size is edited": (edit_spec(b'"rows": 133', b'"rows": 5'), "run.json", "not those of"),
    "the shards' size is edited": (edit_spec(b'"shard_rows": 128', b'"shard_rows": 0'), "run.json", "not those of"),
    "another run's files": (move, "run.json", "does not have the name"),
    "other weights": (change_rows(lambda rows: with_(rows, 3, weights_sha256="bb")), FIRST, "weights_sha256 is"),
    "a row of no engine": (change_rows(lambda rows: with_(rows, 4, engine=None)), FIRST, "engine is not"),
    "the summary is edited": (edit_summary, "summary.parquet", "does not say"),
    "the studies are deleted": (lambda run: run.store.delete("studies.parquet"), "studies.parquet", "missing"),
    "the plan is edited": (edit_plan, "plan.parquet", "not the one"),
    "the plan is deleted": (lambda run: run.store.delete("plan.parquet"), "plan.parquet", "missing"),
}  # fmt: skip


def test_a_finished_run_is_sound(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    assert verify_run(make_finished(tmp_path), lambda done, total: told.append((done, total))) == []
    assert told == [(1, 2), (2, 2)]


def test_a_retried_run_is_sound(tmp_path: Path) -> None:
    run = make_finished(tmp_path)
    run.reopen()
    run.commit(0, results(run.plan(), 0, mark=0.4), retry=1)
    run.finish(1.0, 5, "2026-01-01T00:02:00+00:00")
    assert verify_run(run) == []


@pytest.mark.parametrize("predicts", ONE, ids=" ".join)
def test_a_run_has_exactly_what_its_model_predicts(tmp_path: Path, predicts: tuple[Answer, ...]) -> None:
    run = make_finished(tmp_path, predicts=predicts)
    assert verify_run(run) == []
    (other,) = {"classes", "saliency"} - {*predicts}
    lacks, has = {"classes": ("no prediction", "has a map"), "saliency": ("no map", "has a prediction")}[predicts[0]]
    change_rows(lambda rows: with_(rows, 0, **dict.fromkeys(ANSWERS[predicts[0]])))(run)
    assert any(lacks in one.what for one in verify_run(run))
    run.store.put(FIRST, table_bytes(results(run.plan(), 0, predicts=(*predicts, other))))  # type: ignore[arg-type]
    assert any(has in one.what for one in verify_run(run))


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, tmp_path: Path) -> None:
    damage, file, what = DAMAGES[name]
    run = make_finished(tmp_path)
    damage(run)
    problems = verify_run(Run.open(run.store))
    assert any(one.file == file and what in one.what for one in problems), problems


def test_a_run_finished_before_there_were_seals_is_sound(tmp_path: Path) -> None:
    run = make_finished(tmp_path)
    run.store.put("SUCCESS.json", unsealed(run, "spec_sha256"))
    assert verify_run(run) == []


def test_another_layout_of_the_same_account_is_sound(tmp_path: Path) -> None:
    run = make_finished(tmp_path)
    document = json.loads(run.store.get("SUCCESS.json"))
    run.store.put("SUCCESS.json", json.dumps(dict(reversed(document.items()))).encode())
    assert verify_run(run) == []


def test_an_account_that_can_not_be_read_hides_no_other_damage(tmp_path: Path) -> None:
    run = make_finished(tmp_path)
    run.store.put("SUCCESS.json", b"{")
    run.store.delete(FIRST)
    assert [one.file for one in verify_run(run)] == ["SUCCESS.json", FIRST]


def test_an_unfinished_run_says_what_is_pending(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.commit(1, results(run.plan(), 1))
    problems = {one.file: one.what for one in verify_run(run)}
    assert "1 shards are not committed" in problems["SUCCESS.json"]
    assert problems[FIRST] == "The shard is missing."
