"""A cluster's processes are told from strangers, whose ids, words and folders may be alike; and they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cxrgaze_ray.cluster.processes import Leader, end, members

MARK = "CXRGAZE_TEST_FOLDER"
WAIT = "import time; print('on', flush=True); time.sleep(100)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(100)"

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes that have said that they are there; they end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(code: str = WAIT, *, marked: Path | None = None, **how: object) -> subprocess.Popen[bytes]:
        plain = {name: value for name, value in os.environ.items() if name != MARK}
        environment = plain if marked is None else plain | {MARK: f"{marked}/tmp"}
        one = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, **how)  # type: ignore[call-overload]
        started.append(one)
        assert one.stdout.readline() == b"on\n"
        return one  # type: ignore[no-any-return]

    yield run
    for one in started:
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)
        one.communicate()


def test_a_process_is_told_from_the_next_one_of_its_id(start: Start) -> None:
    process = start()
    leader = Leader.of(process.pid)
    assert leader is not None
    assert leader.lives()
    assert not leader.model_copy(update={"started": leader.started - 1}).lives(), "an earlier one had the id"
    assert not leader.model_copy(update={"boot": "another"}).lives(), "the machine was started anew"
    process.kill()
    process.wait()
    assert not leader.lives()
    assert Leader.of(process.pid) is None


def test_one_that_waits_to_be_buried_does_not_live(start: Start) -> None:
    process = start()
    leader = Leader.of(process.pid)
    assert leader is not None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not leader.lives()


def test_members_are_found_by_their_environment_whatever_their_session(start: Start, tmp_path: Path) -> None:
    ours = start(marked=tmp_path / "a", start_new_session=True)
    start(marked=tmp_path / "ab")
    start()
    assert members(tmp_path / "a", MARK, None) == [ours.pid]


def test_one_without_environment_is_found_by_session_and_open_files(start: Start, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    code = (
        "import subprocess, sys\n"
        f"log = open({str(tmp_path / 'a' / 'log')!r}, 'w')\n"
        f"subprocess.Popen([sys.executable, '-c', {WAIT!r}], stderr=log).wait(log.close())\n"
    )
    leader = start(code, start_new_session=True)
    known = Leader.of(leader.pid)
    (child,) = members(tmp_path / "a", MARK, known)
    assert child != leader.pid
    assert members(tmp_path / "a", MARK, None) == []
    assert known is not None
    assert members(tmp_path / "a", MARK, known.model_copy(update={"boot": "another"})) == []
    leader.kill()
    leader.wait()
    assert members(tmp_path / "a", MARK, known) == [child], "the session goes on without its leader"
    assert end([child], 5) == 0


def test_who_only_looks_at_the_folder_is_left_alone(start: Start, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("words")
    start(f"file = open({str(tmp_path / 'log')!r})\n{WAIT}", cwd=tmp_path)
    ours = start(start_new_session=True)
    assert members(tmp_path, MARK, Leader.of(ours.pid)) == []


def test_who_does_not_end_when_told_is_killed(start: Start) -> None:
    calm, stubborn = start(), start(STUBBORN)
    began = time.monotonic()
    assert end([calm.pid, stubborn.pid], 0.5) == 1
    assert calm.wait() == -signal.SIGTERM
    assert stubborn.wait() == -signal.SIGKILL
    assert time.monotonic() - began < 60


def test_ending_nobody_is_done_at_once() -> None:
    assert end([], 60) == 0
    assert end([2**22 + 1], 60) == 0
