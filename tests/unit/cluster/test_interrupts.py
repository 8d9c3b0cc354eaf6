"""A cluster manager's SIGTERM and a lost terminal's SIGHUP do what Ctrl-C does."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxrgaze_ray.cli.console import stop_on_interrupt
from cxrgaze_ray.cluster.interrupts import answer_as_ctrl_c, held

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ASKING}
    answer_as_ctrl_c()
    yield
    for number, answer in before.items():
        signal.signal(number, answer)


@pytest.mark.parametrize("number", ASKING)
def test_work_that_can_not_drain_ends_as_by_ctrl_c(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


@pytest.mark.parametrize("number", ASKING)
def test_the_first_request_drains_and_a_second_one_ends_at_once(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    with stop_on_interrupt("stopping") as stop:
        signal.raise_signal(number)
        assert stop.wait(30)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_a_terminal_that_goes_away_asks_once() -> None:
    with stop_on_interrupt("stopping") as stop:
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
        assert stop.wait(30)


def test_what_nohup_has_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    answer_as_ctrl_c()
    signal.raise_signal(signal.SIGHUP)


def test_a_command_in_the_background_ends_by_sigterm_though_ctrl_c_is_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", ASKING)
def test_a_first_request_waits_for_the_end_of_a_held_block(number: signal.Signals) -> None:
    went_on = []

    def work() -> None:
        with held():
            os.kill(os.getpid(), number)
            went_on.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert went_on == [True]


def test_a_second_request_ends_a_held_block() -> None:
    def work() -> None:
        with held():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("it went on")

    with pytest.raises(KeyboardInterrupt):
        work()


def test_processes_of_a_held_block_do_not_see_the_terminal_go() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    with held():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "alive\n"
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_what_is_said_to_a_terminal_that_is_gone_is_no_error() -> None:
    code = """
import signal, time
from cxrgaze_ray.cli.console import say, stay, stop_on_interrupt, terminal
from cxrgaze_ray.errors import Interrupted
from cxrgaze_ray.cluster.interrupts import answer_as_ctrl_c

answer_as_ctrl_c(terminal().file)
with stop_on_interrupt("stopping") as stop:
    say("ready")
    try:
        stay(stop)
    except Interrupted as error:
        say(str(error))
        raise SystemExit(error.exit_code)
"""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    said = b""
    while b"ready\r\n" not in said:  # the whole line: a terminal that goes while it is written is another matter
        said += os.read(terminal, 1000)
    os.close(terminal)  # the kernel sends SIGHUP
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130


def test_a_request_that_comes_while_a_sentence_is_written_is_answered() -> None:
    code = """
from cxrgaze_ray.cli.console import say, stop_on_interrupt

with stop_on_interrupt("stopping") as stop:
    say("long " * 100_000)  # more than a pipe takes: it is being written until somebody reads
    say("stop is set" if stop.wait(30) else "nothing came")
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.read(5) == "long "
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said[-500:]
    assert sorted(said.splitlines()[-2:]) == ["stop is set", "stopping"]


def test_a_request_that_comes_as_the_wait_begins_is_answered() -> None:
    code = """
import signal
from cxrgaze_ray.cli.console import say, stop_on_interrupt

with stop_on_interrupt("stopping") as stop:
    with stop._cond:  # as Event.wait() has it, before it waits
        signal.raise_signal(signal.SIGINT)
    say("stop is set" if stop.wait(30) else "nothing came")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stderr.splitlines()) == ["stop is set", "stopping"]


def test_a_request_never_leaves_a_lock_of_the_standard_library_held() -> None:
    code = """
import signal, threading
from functools import partial
from types import SimpleNamespace
from cxrgaze_ray.cluster.interrupts import answer_as_ctrl_c

answer_as_ctrl_c()
lock = threading.Lock()

# the signal comes when the lock is held, and the `with` has not begun yet
inner = SimpleNamespace(
    acquire=lock.acquire, release=lock.release, __exit__=lambda *_: lock.release(),
    __enter__=partial(signal.raise_signal, signal.SIGTERM),
)
lock.acquire()
entered = False
try:
    with threading.Condition(inner):
        entered = True
        while True:
            pass
except KeyboardInterrupt:
    print(entered, lock.locked())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True False\n"


def test_a_request_is_not_lost_in_a_destructor() -> None:
    code = """
import signal
from cxrgaze_ray.cluster.interrupts import answer_as_ctrl_c

class Dying:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

answer_as_ctrl_c()
try:
    Dying()
    while True:
        pass
except KeyboardInterrupt:
    print("stopped")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("stopped\n", "")


def test_a_command_that_is_told_to_stop_says_so_and_ends_with_130(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cxrgaze_ray", "archive", "make", str(tmp_path), "--images", "100000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        while not list(tmp_path.rglob("*.*")):
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "cxrgaze: stopped." in said
    assert "Traceback" not in said


def test_a_job_that_is_told_to_stop_prints_its_line_and_ends_with_130(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    code = """
import time
from cxrgaze_ray.cli.job import run_job
from cxrgaze_ray.config import Settings

def work(_):
    print("ready", flush=True)
    time.sleep(60)

run_job(Settings, work)
"""
    command = [sys.executable, "-c", code, "--config", str(tmp_path / "empty.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        printed, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
    assert json.loads(printed)["error"] == "Interrupted"
