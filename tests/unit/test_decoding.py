"""Images decode in a process that may die: the image gets a reason, and the next one decodes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cxrgaze_ray.decoding import Decoder
from cxrgaze_ray.decoding.client import MEMORY_BYTES
from cxrgaze_ray.decoding.protocol import receive, send
from cxrgaze_ray.decoding.worker import decode_image
from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph import Reading
from cxrgaze_ray.schemas import Reason
from tests.dicom_files import CANARY, gradient, make_dicom

OPTIONS = {"profile": "cxrgaze-v1", "reading": {}, "alarm_s": 60}
SOUND = make_dicom(gradient(60, 40), PhotometricInterpretation="MONOCHROME1", BitsStored=12)

# The real process, but for data that is one of these words.
BREAKING = f"""
import os, signal, sys, time
from cxrgaze_ray.decoding import worker

real = worker.decode_image

def decode(data, options):
    if data == b"abort":
        os.abort()
    if data == b"killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if data == b"exits":
        os._exit(0)
    if data == b"sleeps":
        time.sleep(600)
    if data == b"bug":
        raise KeyError("{CANARY}")
    if data == b"memory":
        bytearray(64 * 2**30)
    if data == b"pid":
        raise worker.RadiographError(worker.Reason.CORRUPT, str(os.getpid()))
    if data.startswith(b"prints"):
        os.write(1, b"noise of native code" * 100)
        os.write(2, b"noise of native code" * 100)
        print("noise of Python")
        data = data.removeprefix(b"prints")
    return real(data, options)

worker.serve.__defaults__ = (decode,)
worker.main()
"""
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


def test_a_crash_is_the_images_reason_and_the_next_one_decodes(decoder: Decoder) -> None:
    assert refusal(decoder, b"abort").reason == Reason.DECODER_CRASH
    assert decoder.decode(SOUND).pixels.any()


@pytest.mark.parametrize("end", [b"killed", b"exits"])
def test_every_end_of_the_process_is_a_crash(decoder: Decoder, end: bytes) -> None:
    assert refusal(decoder, end).reason == Reason.DECODER_CRASH


def test_a_process_that_dies_before_it_has_read_the_image_is_a_crash() -> None:
    with Decoder(command=(sys.executable, "-c", "pass")) as decoder:
        for _ in range(2):
            assert refusal(decoder, bytes(2**20)).reason == Reason.DECODER_CRASH


def test_a_slow_image_is_a_timeout_and_the_next_one_decodes(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = worker_pid(decoder)
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "_timeout_s", 0.2)
        assert refusal(decoder, b"sleeps").reason == Reason.DECODE_TIMEOUT
    assert is_gone(pid)
    assert decoder.decode(SOUND).pixels.any()


def test_a_process_that_died_between_images_is_not_the_next_images_fault(decoder: Decoder) -> None:
    os.kill(worker_pid(decoder), signal.SIGKILL)
    assert decoder._process is not None
    decoder._process.wait()
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


def test_too_much_memory_is_a_reason(decoder: Decoder) -> None:
    assert refusal(decoder, b"memory").reason == Reason.TOO_LARGE
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
    command = (sys.executable, "-m", "cxrgaze_ray.decoding.worker", str(MEMORY_BYTES))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        send(process.stdin, OPTIONS, SOUND)
        header, body = receive(process.stdout)
        assert header["affine"]["rows"] == 60
        assert len(body) == 640 * 512 * 2
        process.stdin.close()
        assert process.wait(60) == 0


def test_messages_are_read_as_they_were_written() -> None:
    stream = io.BytesIO()
    send(stream, {"a": "é"}, b"\x00\xff")
    send(stream, {})
    whole = stream.getvalue()
    stream.seek(0)
    assert receive(stream) == ({"a": "é"}, b"\x00\xff")
    assert receive(stream) == ({}, b"")
    for cut in (0, 5, 14, len(whole) // 2):
        with pytest.raises(EOFError):
            receive(io.BytesIO(whole[:cut]))
