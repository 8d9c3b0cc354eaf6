"""Scoring in bad weather, on real processes: what is killed, cut off or full costs time, and never a row."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cxrgaze_ray.cluster.connection import Cluster
from cxrgaze_ray.errors import EXIT_ENVIRONMENT, StoreDenied, StoreUnavailable
from cxrgaze_ray.scoring.driver import Outcome
from cxrgaze_ray.scoring.gather import Progress
from cxrgaze_ray.scoring.runs import Run, find_runs, verify_run
from cxrgaze_ray.storage import LocalStore, open_store
from tests.conftest import S3Server, clear_clients
from tests.fault_proxy import Fault, FaultProxy
from tests.integration.scored import kill_driver, request, rows, score, start_driver, wait_for

KILLS = 4
"""Times that a run's driver is killed at random."""

pytestmark = pytest.mark.usefixtures("application")


def once(happen: Callable[[], object], after: int = 1) -> Callable[[Progress], None]:
    """Let something happen when so many rows were received, once."""
    left = [happen]

    def watch(progress: Progress) -> None:
        if progress.received >= after and left:
            left.pop()()

    return watch


def only_run(out: str) -> Run:
    (run,) = find_runs(out)
    return run


def assert_same(run: Run, whole: Outcome) -> None:
    """Every input has one row, of the bytes of an undisturbed run."""
    assert not verify_run(run)
    assert rows(run).equals(rows(whole.run))


def assert_denied(work: Callable[[], object]) -> None:
    """Check how a job ends without credentials."""
    with pytest.raises(StoreDenied) as denied:
        work()
    assert denied.value.exit_code == EXIT_ENVIRONMENT
    assert str(denied.value).count("\n") == 0


def upload(folder: str, uri: str) -> None:
    source, target = LocalStore(folder), open_store(uri)
    for info in source.list():
        target.put(info.key, source.get(info.key))


def kill(pattern: str) -> int:
    """Kill one process whose title or command line holds a text; say how many there were."""
    found = [one for one in psutil.process_iter(["cmdline"]) if pattern in " ".join(one.info["cmdline"] or ())]
    if found:
        random.choice(found).kill()
    return len(found)


@pytest.mark.long
def test_credentials_that_expire_stop_the_job_and_it_resumes(
    phantoms: tuple[str, object], storm: tuple[FaultProxy, str], registry: str, tmp_path: Path
) -> None:
    weather, s3 = storm
    upload(phantoms[0], f"{s3}/archive")
    out = str(tmp_path / "out")
    asked = request(f"{s3}/archive", limit=40)
    expected = score(asked, str(tmp_path / "undisturbed"), registry)
    expired = weather.add(Fault("expired", method="GET", key=r"/archive/files/.*\.(dcm|jpg|png)$", skip=20))
    assert_denied(lambda: score(asked, out, registry, decoders=1))  # its error keeps them alive: leave room for others
    assert expired.hits
    assert only_run(out).success() is None
    weather.clear()
    done = score(asked, out, registry)
    assert done.continued
    assert_same(done.run, expected)


@pytest.mark.long
def test_credentials_that_expire_between_commits_stop_the_job_and_it_resumes(
    large_archive: str, storm: tuple[FaultProxy, str], registry: str, whole: Outcome
) -> None:
    weather, s3 = storm
    expired = weather.add(Fault("expired", method="PUT", key=r"/out/.*/results/", skip=1))
    assert_denied(lambda: score(large_archive, f"{s3}/out", registry, decoders=1))
    assert expired.hits
    assert len(only_run(f"{s3}/out").live_shards()) == 1
    assert only_run(f"{s3}/out").success() is None
    weather.clear()
    done = score(large_archive, f"{s3}/out", registry)
    assert done.continued
    assert_same(done.run, whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of one mebibyte, or nothing where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    yield folder
    if mounted.returncode == 0:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.long
def test_a_full_disk_stops_the_job_and_it_resumes(
    large_archive: str, registry: str, small_disk: Path, whole: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(small_disk / "out")

    def fill() -> None:
        if os.path.ismount(small_disk):
            free = shutil.disk_usage(small_disk).free
            (small_disk / "ballast").write_bytes(bytes(max(0, free - 8192)))
        else:
            monkeypatch.setattr(os, "fsync", full)

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    with pytest.raises(StoreUnavailable, match=r"(?i)no space|full") as stopped:
        score(large_archive, out, registry, on_progress=once(fill))
    assert stopped.value.exit_code == EXIT_ENVIRONMENT
    assert not list(small_disk.rglob(".cxrgaze-tmp-*"))
    monkeypatch.undo()
    (small_disk / "ballast").unlink(missing_ok=True)
    if os.path.ismount(small_disk):
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    done = score(large_archive, out, registry)
    assert done.continued
    assert_same(done.run, whole)


def leases(out: str) -> int:
    """Count the drivers that took a run over so far."""
    return sum(info.key.endswith(".json") for run in find_runs(out) for info in run.store.list("lease/"))


def kill_at_random(driver: subprocess.Popen[str], out: str, before: int, chance: random.Random, most: float) -> bool:
    """Kill a driver so many seconds at most after it took the lease; say whether it was still at work."""
    wait_for(lambda: leases(out) > before, driver)
    try:
        driver.wait(timeout=chance.uniform(0, most))
    except subprocess.TimeoutExpired:
        kill_driver(driver)
        return True
    _, err = driver.communicate()
    assert driver.returncode == 0, err
    return False


@pytest.mark.long
def test_a_driver_killed_again_and_again_loses_nothing(
    whole: Outcome, cluster: Cluster, large_archive: str, registry: str, tmp_path: Path
) -> None:
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    print(f"SEED={seed} kills the drivers at the same moments again")
    chance, kills, outs = random.Random(seed), 0, [str(tmp_path / "0")]
    while kills < KILLS:
        driver = start_driver(large_archive, outs[-1], registry, cluster.address)
        if kill_at_random(driver, outs[-1], leases(outs[-1]), chance, 8):
            kills += 1
        else:
            outs.append(str(tmp_path / str(len(outs))))  # it was quicker: the next one starts afresh
    for out in outs:
        assert_same(score(large_archive, out, registry).run, whole)


@pytest.mark.long
def test_a_driver_killed_with_its_private_cluster_loses_nothing(
    whole: Outcome, large_archive: str, registry: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    killed = start_driver(large_archive, out, registry, None)
    try:
        wait_for(lambda: any(run.live_shards() for run in find_runs(out)), killed)
    finally:
        kill_driver(killed)
    before = only_run(out).live_shards()
    assert only_run(out).success() is None, "the run was over before its driver was killed"
    again = start_driver(large_archive, out, registry, None)
    _, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert f"{len(before)} of 3 shards are committed" in err
    assert_same(only_run(out), whole)


@pytest.mark.long
@pytest.mark.parametrize("process", ["cxrgaze_ray.radiograph.decoding.worker", "MapBatches(DecodeChunk)"])
def test_a_killed_worker_costs_time_and_no_row(
    process: str, whole: Outcome, large_archive: str, registry: str, tmp_path: Path
) -> None:
    found = []
    done = score(large_archive, str(tmp_path), registry, on_progress=once(lambda: found.append(kill(process)), 32))
    assert found
    assert found[0] > 0
    assert_same(done.run, whole)


@pytest.mark.long
def test_workers_killed_all_along_cost_time_and_no_row(
    whole: Outcome, large_archive: str, registry: str, tmp_path: Path
) -> None:
    """One dies whenever three chunks have come: by a clock, a slow machine would start workers only to kill them."""
    killed: list[int] = []

    def watch(progress: Progress) -> None:
        if progress.received >= 48 * (len(killed) + 1):
            killed.append(kill("MapWorker"))

    done = score(large_archive, str(tmp_path), registry, on_progress=watch)
    assert sum(map(bool, killed)) >= 4
    assert_same(done.run, whole)


@pytest.mark.long
def test_past_its_budget_an_outage_ends_the_job_with_one_line(
    cluster: Cluster, storm: tuple[FaultProxy, str], registry: str, phantoms: tuple[str, object]
) -> None:
    weather, s3 = storm
    upload(phantoms[0], f"{s3}/archive")
    expected = score(f"{s3}/archive", f"{s3}/undisturbed", registry)
    weather.add(Fault("slow_down", method="PUT", key=r"/out/.*/results/"))
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    driver = start_driver(
        f"{s3}/archive", f"{s3}/out", registry, cluster.address, CXRGAZE_S3_RETRY_S="3", **environment
    )
    _, err = driver.communicate(timeout=300)
    assert driver.returncode == EXIT_ENVIRONMENT, err
    last = err.strip().splitlines()[-1]
    assert last.startswith("cxrgaze: ")
    assert "SlowDown" in last
    assert "Run the same command again" in last
    assert "Traceback" not in err
    weather.clear()
    done = score(f"{s3}/archive", f"{s3}/out", registry)
    assert done.continued
    assert_same(done.run, expected)


@pytest.mark.long
def test_a_store_that_is_stopped_for_half_a_minute_is_waited_for(
    large_archive: str, storm: tuple[FaultProxy, str], s3_server: S3Server, registry: str
) -> None:
    _, s3 = storm
    upload(large_archive, f"{s3}/archive")
    expected = score(f"{s3}/archive", f"{s3}/undisturbed", registry)
    back: list[threading.Timer] = []

    def stop() -> None:
        s3_server.stop()
        back.append(threading.Timer(30, s3_server.start))
        back[0].start()

    try:
        done = score(f"{s3}/archive", f"{s3}/out", registry, on_progress=once(stop, 32))
    finally:
        back[0].join()
    assert_same(done.run, expected)
    assert not done.continued


@pytest.mark.long
def test_a_slow_and_silent_store_is_waited_for(
    large_archive: str, storm: tuple[FaultProxy, str], registry: str
) -> None:
    weather, s3 = storm
    upload(large_archive, f"{s3}/archive")
    expected = score(f"{s3}/archive", f"{s3}/undisturbed", registry)
    for fault in (
        Fault("timeout", probability=0.01, seconds=3),
        Fault("unavailable", probability=0.05),
        Fault("too_many", probability=0.05),
        Fault("short_xml", probability=0.02),
        Fault("reset", probability=0.1),
    ):
        weather.add(fault)
    done = score(f"{s3}/archive", f"{s3}/out", registry)
    assert weather.counts["reset"]
    assert_same(done.run, expected)


@pytest.mark.long
def test_requests_that_are_never_answered_are_given_up_and_made_again(
    large_archive: str, storm: tuple[FaultProxy, str], registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weather, s3 = storm
    upload(large_archive, f"{s3}/archive")
    expected = score(f"{s3}/archive", f"{s3}/undisturbed", registry)
    monkeypatch.setenv("CXRGAZE_S3_READ_TIMEOUT_S", "1")  # of this process: the decoders have `WORKERS_READ_S`
    clear_clients()
    for_ever = 3600.0
    reads = weather.add(Fault("timeout", method="GET", key=r"/archive/file-", skip=50, times=2, seconds=for_ever))
    commits = weather.add(Fault("timeout", method="PUT", key=r"/out/.*/results/", times=2, seconds=for_ever))
    done = score(f"{s3}/archive", f"{s3}/out", registry)
    assert (reads.hits, commits.hits) == (2, 2)
    assert not done.continued
    assert_same(done.run, expected)
