"""Images decode in a process that may die: the image gets a reason, and the next one decodes."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrgaze_ray.errors import EnvironmentFault, RadiographError
from cxrgaze_ray.radiograph.decoding import Decoder, child, client
from cxrgaze_ray.radiograph.decoding.child import _INHERITED, Child, SlowStart
from cxrgaze_ray.radiograph.decoding.client import MEMORY_BYTES
from cxrgaze_ray.radiograph.decoding.protocol import ProtocolError, receive, send
from cxrgaze_ray.radiograph.decoding.worker import decode_image
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.schemas import Reason
from tests.dicom_files import CANARY, gradient, make_dicom

OPTIONS = {"profile": "cxrgaze-v1", "reading": {}, "alarm_s": 60}
SOUND = make_dicom(gradient(60, 40), PhotometricInterpretation="MONOCHROME1", BitsStored=12)

# The real process, but for data that is one of these words.
BREAKING = f"""
import ctypes, os, pathlib, signal, sys, time
import cv2
import numpy as np
from cxrgaze_ray.radiograph.decoding import worker

real = worker.decode_image

def decode(data, options):
    if data == b"abort":
        os.abort()
    if data == b"killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if data == b"segfault":
        ctypes.string_at(0)
    if data == b"native memory":
        ctypes.memset(ctypes.CDLL(None).malloc(ctypes.c_size_t(64 * 2**30)), 1, 1)
    if data.startswith(b"killed once "):
        try:
            pathlib.Path(data[12:].decode()).touch(exist_ok=False)
        except FileExistsError:
            return real({SOUND!r}, options)
        os.kill(os.getpid(), signal.SIGKILL)
    if data.startswith(b"hangs "):
        pathlib.Path(data[6:].decode()).write_text(str(os.getpid()))
        ctypes.PyDLL(None).sleep(600)  # holds Python's lock, as a codec does
    if data == b"exits":
        os._exit(0)
    if data == b"sleeps":
        time.sleep(600)
    if data == b"bug":
        raise KeyError("{CANARY}")
    if data == b"memory":
        bytearray(64 * 2**30)
    if data == b"memory of cv2":
        cv2.resize(np.zeros((9, 9)), (120000, 30000))
    if data == b"pid":
        raise worker.RadiographError(worker.Reason.CORRUPT, str(os.getpid()))
    if data.startswith(b"prints"):
        os.write(1, b"noise of native code" * 100)
        os.write(2, b"noise of native code" * 100)
        print("noise of Python")
        data = data.removeprefix(b"prints")
    return real(data, options)

worker.main(decode)
"""
CRASHES = 200
COMMAND = (sys.executable, "-c", BREAKING)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(command=COMMAND) as decoder:
        yield decoder


def refusal(decoder: Decoder, data: bytes) -> RadiographError:
    with pytest.raises(RadiographError) as error:
        decoder.decode(data)
    return error.value


def worker_pid(decoder: Decoder) -> int:
    return int(refusal(decoder, b"pid").message)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_pixels_are_those_of_decoding_in_this_process() -> None:
    radiograph, image = decode_image(SOUND, OPTIONS)
    with Decoder() as decoder:
        decoded = decoder.decode(SOUND)
    assert decoded.pixels.dtype == np.uint16
    np.testing.assert_array_equal(decoded.pixels, image.pixels)
    assert decoded.affine == image.affine
    assert decoded.facts["photometric"] == radiograph.facts.photometric == "MONOCHROME1"
    assert decoded.facts["intensity_p50"] == image.intensity_p50


def test_a_refused_file_is_gone_with_its_answer() -> None:
    """Not at some later garbage collection: thirty large ones would be gigabytes by then."""

    class File(bytearray):
        """Bytes that can be watched."""

    gc.disable()
    try:
        with Decoder() as decoder:
            file: Any = File(b"no radiograph" * 99)
            seen = weakref.ref(file)
            with suppress(RadiographError):
                decoder.decode(file)
            del file
            assert seen() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("end", [b"abort", b"segfault", b"killed", b"exits", b"native memory"])
def test_a_crash_is_the_images_reason_and_the_next_one_decodes(decoder: Decoder, end: bytes) -> None:
    assert refusal(decoder, end).reason == Reason.DECODER_CRASH
    assert decoder.decode(SOUND).pixels.any()


def test_to_be_killed_once_is_not_the_images_fault(decoder: Decoder, tmp_path: Path) -> None:
    assert decoder.decode(b"killed once " + bytes(tmp_path / "killed")).pixels.any()


READY = io.BytesIO()
send(READY, {})


@pytest.mark.parametrize("command", [(sys.executable, "-c", "pass"), ("/nonexistent/python",)])
def test_a_process_that_does_not_start_is_no_images_fault(command: tuple[str, ...]) -> None:
    with Decoder(command=command) as decoder:
        for _ in range(2):
            with pytest.raises(EnvironmentFault, match="does not start"):
                decoder.decode(bytes(2**20))


def test_a_process_that_is_never_ready_is_no_images_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "START_S", 0.1)
    refused = pytest.raises(EnvironmentFault, match="was not ready within")
    with Decoder(command=("/bin/sh", "-c", "exec sleep 600")) as decoder, refused:
        decoder.decode(SOUND)


def test_a_slow_start_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    late = [SlowStart("late")]

    class Slow(Child):
        def __init__(self, command: Sequence[str]) -> None:
            if late:
                raise late.pop()
            super().__init__(command)

    monkeypatch.setattr(client, "Child", Slow)
    with Decoder() as decoder:
        assert decoder.decode(SOUND).pixels.any()
        late += [SlowStart("late"), SlowStart("late")]
        decoder.close()
        with pytest.raises(SlowStart):
            decoder.decode(SOUND)


@pytest.mark.parametrize(
    "answer", ["x" * 40, "\\005\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0nope!", "\\001\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0" + "7"]
)
def test_nonsense_for_an_answer_is_a_crash(answer: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.write_bytes(READY.getvalue())
    with Decoder(command=("/bin/sh", "-c", f"cat {ready}; printf '{answer}'; exec sleep 600")) as decoder:
        assert refusal(decoder, SOUND).reason == Reason.DECODER_CRASH


def held() -> tuple[int, bool]:
    """Return how many descriptors this process has, and whether a dead child of it waits to be waited for."""
    with suppress(ChildProcessError):
        dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return len(list(Path("/proc/self/fd").iterdir())), dead is not None
    return len(list(Path("/proc/self/fd").iterdir())), False


def test_crashes_leave_no_process_and_no_descriptor_behind(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.write_bytes(READY.getvalue())
    before = held()
    with Decoder(command=("/bin/sh", "-c", f"cat {ready}; kill -ABRT $$")) as decoder:
        for _ in range(CRASHES):
            assert refusal(decoder, SOUND).reason == Reason.DECODER_CRASH
    assert held() == before


def test_a_slow_image_is_a_timeout_and_the_next_one_decodes(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = worker_pid(decoder)
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "_timeout_s", 0.2)
        assert refusal(decoder, b"sleeps").reason == Reason.DECODE_TIMEOUT
    assert is_gone(pid)
    assert decoder.decode(SOUND).pixels.any()


def test_an_answer_that_comes_with_the_last_tick_counts_and_harms_no_other(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = worker_pid(decoder)

    def receive_and_dawdle(*arguments: Any, **options: Any) -> Any:
        answer = receive(*arguments, **options)
        while not watched.process.returncode and watched.is_alive():
            time.sleep(0.01)
        return answer

    assert decoder._child is not None
    watched = decoder._child
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "_timeout_s", 0.5)
        patch.setattr(child, "receive", receive_and_dawdle)
        assert decoder.decode(SOUND).pixels.any()
    assert is_gone(pid)
    assert decoder.decode(SOUND).pixels.any()


def test_an_answer_that_nobody_waited_for_is_not_the_next_images(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(child, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            decoder.decode(make_dicom(gradient(33, 44)))
    assert decoder.decode(SOUND).affine.rows == 60


def test_a_process_that_died_between_images_is_not_the_next_images_fault(decoder: Decoder) -> None:
    os.kill(worker_pid(decoder), signal.SIGKILL)
    assert decoder._child is not None
    decoder._child.process.wait()
    assert decoder.decode(SOUND).pixels.any()


def test_one_process_decodes_image_after_image(decoder: Decoder) -> None:
    pid = worker_pid(decoder)
    decoder.decode(SOUND)
    refusal(decoder, b"neither")
    assert worker_pid(decoder) == pid


def test_reasons_and_details_pass_through() -> None:
    lateral = make_dicom(gradient(), ViewPosition="LATERAL")
    with Decoder(reading=Reading(frontal_only=True)) as decoder:
        assert refusal(decoder, lateral).reason == Reason.LATERAL_VIEW
        assert refusal(decoder, b"").reason == Reason.EMPTY_FILE
        text = refusal(decoder, b"text")
    assert (text.reason, text.message) == (Reason.NOT_AN_IMAGE, "The file is neither DICOM, JPEG nor PNG.")
    with Decoder() as decoder:
        assert decoder.decode(lateral).facts["view_position"] == "LATERAL"


def test_a_bug_is_no_reason_and_quotes_nothing(decoder: Decoder) -> None:
    with pytest.raises(RuntimeError, match="KeyError at") as error:
        decoder.decode(b"bug")
    assert CANARY not in str(error.value)
    assert decoder.decode(SOUND).pixels.any()


@pytest.mark.parametrize("memory", [b"memory", b"memory of cv2"])
def test_too_much_memory_is_a_reason(decoder: Decoder, memory: bytes) -> None:
    pid = worker_pid(decoder)
    assert refusal(decoder, memory).reason == Reason.TOO_LARGE
    assert worker_pid(decoder) == pid
    assert decoder.decode(SOUND).pixels.any()


def test_noise_of_native_code_does_not_mix_with_answers(decoder: Decoder) -> None:
    np.testing.assert_array_equal(decoder.decode(b"prints" + SOUND).pixels, decoder.decode(SOUND).pixels)


def test_threads_get_their_own_answers(decoder: Decoder) -> None:
    images = [make_dicom(gradient(20 + index, 30)) for index in range(6)]
    with ThreadPoolExecutor(6) as pool:
        rows = [decoded.affine.rows for decoded in pool.map(decoder.decode, images)]
    assert rows == [20, 21, 22, 23, 24, 25]


def test_the_process_ends_when_the_client_closes() -> None:
    with Decoder(command=COMMAND) as decoder:
        pid = worker_pid(decoder)
        assert not is_gone(pid)
    assert is_gone(pid)
    decoder.close()


def test_the_process_ends_when_its_parent_is_gone() -> None:
    command = (sys.executable, "-m", "cxrgaze_ray.radiograph.decoding.worker", str(MEMORY_BYTES))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert receive(process.stdout) == ({}, b"")
        send(process.stdin, OPTIONS, SOUND)
        header, body = receive(process.stdout)
        assert header["affine"]["rows"] == 60
        assert len(body) == 640 * 512 * 2
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_process_stuck_in_native_code_outlives_its_parent_by_seconds_only(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    parent = f"""
from cxrgaze_ray.radiograph.decoding import Decoder
Decoder(command={COMMAND!r}, timeout_s=2.0).decode(b"hangs {note}")
"""
    with subprocess.Popen((sys.executable, "-c", parent), stderr=subprocess.DEVNULL) as process:
        while not (note.exists() and note.read_text()):
            time.sleep(0.02)
        process.kill()
    stuck = int(note.read_text())
    end = time.monotonic() + 60
    while not is_dead(stuck) and time.monotonic() < end:
        time.sleep(0.05)
    assert is_dead(stuck)


def is_dead(pid: int) -> bool:
    """Say whether a process of nobody's has ended; one that nobody waits for stays in the table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_messages_are_read_as_they_were_written() -> None:
    stream = io.BytesIO()
    send(stream, {"a": "é"}, b"\x00\xff")
    send(stream, {})
    whole = stream.getvalue()
    stream.seek(0)
    assert receive(stream) == ({"a": "é"}, b"\x00\xff")
    assert receive(stream) == ({}, b"")
    with pytest.raises(ProtocolError):
        receive(io.BytesIO(whole), max_body=1)
    for cut in (0, 5, 14, len(whole) // 2):
        with pytest.raises(EOFError):
            receive(io.BytesIO(whole[:cut]))


def test_the_process_that_reads_hostile_bytes_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "CXRGAZE_TOKEN", "RAY_AUTH_TOKEN", "A_PASSWORD_OF_OTHERS")
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("TZ", "UTC")
    with Decoder(command=COMMAND) as decoder:
        environment = Path(f"/proc/{worker_pid(decoder)}/environ").read_bytes().split(b"\0")
    names = {entry.partition(b"=")[0].decode() for entry in environment if entry}
    assert not names & set(secrets)
    assert {"PATH", "TZ", "PYTHONPATH", "OMP_NUM_THREADS"} <= names
    assert all(name in _INHERITED or name.startswith(("PYTHON", "O")) for name in names), names


def test_an_image_does_not_fail_because_a_whole_group_is_told_to_stop() -> None:
    with Decoder(command=COMMAND) as decoder:
        pid = worker_pid(decoder)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        assert decoder.decode(SOUND).affine.rows == 60
        assert worker_pid(decoder) == pid
