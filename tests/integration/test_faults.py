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

from cxrgaze_ray.cluster import Cluster
from cxrgaze_ray.errors import EXIT_ENVIRONMENT, StoreDenied, StoreUnavailable
from cxrgaze_ray.runs import Run, find_runs, verify_run
from cxrgaze_ray.scoring.driver import Outcome
from cxrgaze_ray.scoring.gather import Progress
from cxrgaze_ray.storage import LocalStore, open_store
from tests.conftest import S3Server
from tests.fault_proxy import Fault, FaultProxy
from tests.integration.scored import kill_driver, request, rows, score, start_driver

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


def test_credentials_that_expire_stop_the_job_and_it_resumes(
    phantoms: tuple[str, object], storm: tuple[FaultProxy, str], registry: str, tmp_path: Path
) -> None:
    weather, s3 = storm
    upload(phantoms[0], f"{s3}/archive")
    out = str(tmp_path / "out")
    asked = request(f"{s3}/archive", limit=40)
    expired = weather.add(Fault("expired", method="GET", key=r"/archive/files/.*\.(dcm|jpg|png)$", skip=20))
    with pytest.raises(StoreDenied) as denied:
        score(asked, out, registry)
    assert expired.hits
    assert denied.value.exit_code == EXIT_ENVIRONMENT
    assert str(denied.value).count("\n") == 0
    assert only_run(out).success() is None
    weather.clear()
    done = score(asked, out, registry)
    assert done.continued
    assert not verify_run(done.run)
    assert not {"missing", "changed"} & set(done.success.reasons)


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


@pytest.mark.long
def test_a_driver_killed_again_and_again_loses_nothing(
    whole: Outcome, cluster: Cluster, large_archive: str, registry: str, tmp_path: Path
) -> None:
    out, chance, kills = str(tmp_path), random.Random(), 0
    for _ in range(12):
        driver = start_driver(large_archive, out, registry, cluster.address)
        try:
            driver.wait(timeout=chance.uniform(6, 22))
        except subprocess.TimeoutExpired:
            kill_driver(driver)
            kills += 1
        else:
            _, err = driver.communicate()
            assert driver.returncode == 0, err
            break
    done = score(large_archive, out, registry)
    assert kills
    assert_same(done.run, whole)


@pytest.mark.long
@pytest.mark.parametrize("process", ["cxrgaze_ray.decoding.worker", "MapBatches(DecodeChunk)"])
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
    over = threading.Event()
    killed = []

    def keep_killing() -> None:
        while not over.wait(2.5):
            killed.append(kill("MapWorker"))

    thread = threading.Thread(target=keep_killing)
    thread.start()
    try:
        done = score(large_archive, str(tmp_path), registry)
    finally:
        over.set()
        thread.join()
    assert sum(map(bool, killed))
    assert_same(done.run, whole)


@pytest.mark.long
def test_past_its_budget_an_outage_ends_the_job_with_one_line(
    cluster: Cluster, storm: tuple[FaultProxy, str], registry: str, phantoms: tuple[str, object]
) -> None:
    weather, s3 = storm
    upload(phantoms[0], f"{s3}/archive")
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
    assert "run the same command again" in last
    assert "Traceback" not in err
    weather.clear()
    done = score(f"{s3}/archive", f"{s3}/out", registry)
    assert done.continued
    assert not verify_run(done.run)


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
