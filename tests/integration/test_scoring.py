"""Scoring archives on real Ray Data and Serve: one row for every input, whatever happens."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cxrgaze_ray.cluster.connection import Cluster
from cxrgaze_ray.errors import EnvironmentFault, Interrupted, NothingNew, RunConflict
from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.phantoms import PhantomReport
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.scoring.driver import Outcome
from cxrgaze_ray.scoring.runs import Run, ScoreOptions, find_runs, verify_run
from cxrgaze_ray.storage import LocalStore, open_store
from cxrgaze_ray.storage.lease import Lease
from tests.fault_proxy import Fault, FaultProxy
from tests.integration.conftest import LARGE, same_cluster
from tests.integration.scored import kill_driver, request, rows, score, start_driver, stop_when, wait_for

pytestmark = pytest.mark.usefixtures("application")


def test_every_file_has_the_row_it_deserves(phantoms: tuple[str, PhantomReport], calm: Outcome) -> None:
    _, report = phantoms
    table = rows(calm.run)
    by_id = {row["image_id"]: row for row in table.to_pylist()}
    planted = {fault.image_id: fault.reason for fault in report.planted}
    assert table.num_rows == len(by_id) == report.counts["images"] + report.counts["faults"]
    assert {image_id: by_id[image_id]["reason_code"] for image_id in planted} == planted
    sound = [row for image_id, row in by_id.items() if image_id not in planted]
    assert all(row["status"] == "scored" for row in sound)
    for row in sound:
        assert row["p_normal"] + row["p_heart_failure"] + row["p_pneumonia"] == pytest.approx(1, abs=1e-5)
        assert row["saliency_png"].startswith(b"\x89PNG")
        assert row["engine"] == "reference-float32-cpu"
    assert calm.success.counts == {"scored": 36, "skipped": 3, "failed": 11}
    assert calm.run.summary().num_rows == table.num_rows


def test_grad_cam_is_a_column_of_a_run_of_its_own(
    phantoms: tuple[str, PhantomReport], calm: Outcome, registry: str, tmp_path: Path
) -> None:
    asked = request(phantoms[0], limit=6, cam=True)
    run = score(asked, str(tmp_path), registry).run
    assert verify_run(run) == []
    calm_rows = {row["image_id"]: row for row in rows(calm.run).to_pylist()}
    for row in rows(run).to_pylist():
        png, target = row.pop("cam_png"), row.pop("cam_target")
        alike = calm_rows[row["image_id"]]
        for name in [name for name, value in alike.items() if isinstance(value, float)]:
            # the last bit of a sum may hang on how many images are computed together
            assert row.pop(name) == pytest.approx(alike[name], rel=1e-5)
            del alike[name]
        assert row == alike
        assert (png is not None) == (target is not None) == (row["status"] == "scored")
    assert score(asked, str(tmp_path), registry).already_complete


@pytest.mark.long
def test_a_complete_run_is_left_alone_the_rest_is_new_and_new_starts_afresh(
    phantoms: tuple[str, PhantomReport], registry: str, tmp_path: Path
) -> None:
    asked = request(phantoms[0], limit=20)
    first = score(asked, str(tmp_path), registry)
    again = score(asked, str(tmp_path), registry)
    assert again.already_complete
    assert again.run.spec == first.run.spec
    again_asked = asked.model_copy(update={"not_in": (str(tmp_path),), "options": ScoreOptions()})
    rest = score(again_asked, str(tmp_path), registry)
    assert rest.run.spec.left_out == 20
    assert not set(rest.run.plan()["uri"].to_pylist()) & set(first.run.plan()["uri"].to_pylist())
    with pytest.raises(NothingNew):
        score(again_asked, str(tmp_path), registry)
    fresh = score(asked, str(tmp_path), registry, new=True)
    assert fresh.run.spec.run_id != first.run.spec.run_id
    assert rows(fresh.run).equals(rows(first.run))
    assert len(find_runs(str(tmp_path))) == 3


def test_a_stopped_run_goes_on_with_the_weights_it_began_with(
    whole: Outcome, large_archive: str, registry: str, tmp_path: Path
) -> None:
    stop = threading.Event()
    with pytest.raises(Interrupted, match="rows are committed"):
        score(large_archive, str(tmp_path), registry, stop=stop, on_progress=stop_when(1, stop))
    (stopped,) = find_runs(str(tmp_path))
    committed = stopped.live_shards()
    assert 0 < len(committed) < stopped.spec.shards
    before = {key: stopped.store.get(key) for key in committed.values()}

    ledger = Registry(open_store(registry))
    other = ledger.publish(make_bundle(build(PRESETS["tiny"], 77), "cxrgaze", trained=False))
    ledger.promote("cxrgaze", other.version)
    done = score(large_archive, str(tmp_path), registry)
    assert done.continued
    assert {key: done.run.store.get(key) for key in before} == before
    assert rows(done.run).equals(rows(whole.run))


@pytest.mark.long
def test_ctrl_c_drains_and_says_how_to_go_on(
    cluster: Cluster, large_archive: str, registry: str, tmp_path: Path
) -> None:
    driver = start_driver(large_archive, str(tmp_path / "out"), registry, cluster.address)
    wait_for(lambda: any(run.live_shards() for run in find_runs(str(tmp_path / "out"))), driver)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert "Continue with: cxrgaze score" in err
    (run,) = find_runs(str(tmp_path / "out"))
    assert run.success() is None
    assert run.live_shards()


def test_failed_rows_can_be_scored_again(phantoms: tuple[str, PhantomReport], registry: str, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    sound = sorted(path for path in Path(phantoms[0], "files").rglob("*.jpg") if path.stat().st_size > 8000)[:4]
    for number, path in enumerate(sound):
        shutil.copy2(path, archive / f"{number}.jpg")
    away = tmp_path / "away.jpg"

    @contextmanager
    def losing_one() -> Iterator[Cluster]:
        (archive / "2.jpg").rename(away)  # after the plan was made: its row says missing
        with same_cluster() as cluster:
            yield cluster

    out = str(tmp_path / "out")
    first = score(str(archive), out, registry, connect=losing_one)
    assert first.success.reasons == {"missing": 1}
    away.rename(archive / "2.jpg")
    again = score(str(archive), out, registry, retry_failed=True)
    assert again.run.spec == first.run.spec
    assert again.success.counts == {"scored": 4}
    assert [shard.name for shard in again.success.shards] == ["results/shard-00000.r1.parquet"]
    kept = [row for row in rows(first.run).to_pylist() if row["position"] != 2]
    assert [row for row in rows(again.run).to_pylist() if row["position"] != 2] == kept


def test_a_run_that_lacks_only_its_end_is_finished_without_a_cluster(
    whole: Outcome, large_archive: str, published: str, tmp_path: Path
) -> None:
    shutil.copytree(Path(whole.run.store.uri), tmp_path / "out" / whole.run.spec.run_id)
    (run,) = find_runs(str(tmp_path / "out"))
    run.reopen()  # as a driver does that dies before its first retry

    def no_cluster() -> Cluster:
        raise AssertionError("there is nothing to score")

    done = score(large_archive, str(tmp_path / "out"), published, connect=no_cluster)
    assert done.continued
    assert done.success.shards == whole.success.shards
    assert not verify_run(done.run)
    assert score(large_archive, str(tmp_path / "out"), published, connect=no_cluster).already_complete


def test_a_second_driver_is_told(large_archive: str, registry: str, tmp_path: Path, whole: Outcome) -> None:
    run = Run.create(open_store(str(tmp_path)).child("run"), whole.run.spec, whole.run.plan())
    with Lease(run.store), pytest.raises(RunConflict, match="Another driver"):
        score(large_archive, str(tmp_path), registry)


def test_a_run_that_was_begun_on_a_gpu_says_so_where_there_is_none(
    large_archive: str, registry: str, tmp_path: Path, whole: Outcome
) -> None:
    spec = whole.run.spec.model_copy(update={"engine": "folded-float16-cuda"})
    run = Run.create(open_store(str(tmp_path)).child(spec.run_id), spec, whole.run.plan())
    with pytest.raises(EnvironmentFault, match="folded-float16-cuda"):
        score(large_archive, str(tmp_path), registry)
    assert run.pending_shards() == list(range(spec.shards))


def test_a_bucket_in_bad_weather_gives_the_same_rows_as_a_folder(
    phantoms: tuple[str, PhantomReport], storm: tuple[FaultProxy, str], registry: str, calm: Outcome
) -> None:
    weather, s3 = storm
    for folder, prefix in ((phantoms[0], "archive"), (registry, "registry")):
        for info in LocalStore(folder).list():
            open_store(f"{s3}/{prefix}").put(info.key, LocalStore(folder).get(info.key))
    for kind in ("error_500", "slow_down", "reset", "truncated", "lost_reply"):
        weather.add(Fault(kind, probability=0.04))
    remote = score(f"{s3}/archive", f"{s3}/out", f"{s3}/registry")
    assert sum(weather.counts.values()) - weather.counts["forwarded"] > 5
    assert remote.run.store.uri.startswith(f"{s3}/out/")
    assert remote.success.counts == calm.success.counts
    names, by_id = ["image_id", "status", "reason_code", "logits", "saliency_png"], [("image_id", "ascending")]
    here, there = (rows(outcome.run).select(names).sort_by(by_id) for outcome in (calm, remote))
    assert there.equals(here)
    assert not verify_run(remote.run)
    assert score(f"{s3}/archive", f"{s3}/out", f"{s3}/registry").already_complete


@pytest.mark.long
def test_a_killed_driver_s_run_goes_on_to_the_same_rows(
    whole: Outcome, cluster: Cluster, large_archive: str, registry: str, tmp_path: Path
) -> None:
    driver = start_driver(large_archive, str(tmp_path), registry, cluster.address)
    try:
        wait_for(lambda: any(run.live_shards() for run in find_runs(str(tmp_path))), driver)
        time.sleep(random.uniform(0, 0.3))  # any moment will do
    finally:
        kill_driver(driver)
    (killed,) = find_runs(str(tmp_path))
    assert killed.success() is None, "the run was over before its driver was killed"
    done = score(large_archive, str(tmp_path), registry)
    assert done.continued
    assert rows(done.run).equals(rows(whole.run))
    assert done.success.rows == LARGE
