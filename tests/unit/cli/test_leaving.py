"""A process of ours ends with its own exit code, whatever threads are still at work."""

from __future__ import annotations

import subprocess
import sys

import pytest

READING = """
import io, sys, time
import pyarrow.csv

class Slow(io.BytesIO):
    def read(self, n=-1):
        time.sleep(0.05)
        return super().read(n)

rows = pyarrow.csv.open_csv(
    Slow(b"a,b\\n" + b"1,2\\n" * 2_000_000), read_options=pyarrow.csv.ReadOptions(block_size=1 << 16)
)
next(iter(rows))
"""


def ended(body: str, before: str = "") -> subprocess.CompletedProcess[str]:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    code = f"{before}\nfrom cxrgaze_ray.cli.leaving import leaves_at_once\nwith leaves_at_once():\n{lines}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


def test_a_thread_of_arrow_s_that_reads_on_changes_no_exit_code() -> None:
    done = ended(READING + "print('done')\nsys.exit(3)")
    assert (done.returncode, done.stdout, done.stderr) == (3, "done\n", "")


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("print('result', end='')", 0, ""),
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit('no such run')", 1, "no such run"),
        ("raise KeyError('lost')", 1, "KeyError: 'lost'"),
        ("import sys; sys.stdout.close(); raise SystemExit(4)", 4, ""),
    ],
)
def test_every_ending_keeps_its_code_and_its_words(body: str, code: int, said: str) -> None:
    done = ended(body)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert ("result" in body) == (done.stdout == "result")


def test_what_libraries_do_on_leaving_is_done() -> None:
    late = "import atexit; atexit.register(print, 'put away', end='')"
    assert ended(late).stdout == "put away"
    folder = "import tempfile, pathlib; kept = tempfile.TemporaryDirectory(); print(kept.name, end='')"
    assert subprocess.run(["test", "-e", ended(folder).stdout], check=False).returncode == 1


def test_a_signal_during_the_end_tears_nothing() -> None:
    asked = "lambda: (os.kill(os.getpid(), signal.SIGTERM), print('put away'))"
    before = "import signal; signal.signal(signal.SIGTERM, signal.default_int_handler)"
    done = ended(f"import atexit, os, signal; atexit.register({asked})", before)
    assert (done.returncode, done.stdout, done.stderr) == (0, "put away\n", "")
