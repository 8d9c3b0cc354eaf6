"""The decoding process: one image at a time, bounded memory, ends with its parent.

Started as ``python -m cxrgaze_ray.radiograph.decoding.worker``. Knows neither torch nor Ray nor any store.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, BinaryIO

import cv2

from cxrgaze_ray.errors import RadiographError, place_of
from cxrgaze_ray.radiograph.decoding.protocol import receive, send
from cxrgaze_ray.radiograph.preprocess import ModelImage, draw_picture, prepare
from cxrgaze_ray.radiograph.reading import Radiograph, Reading, read_radiograph
from cxrgaze_ray.schemas import Reason

_TOO_LARGE = {"reason": str(Reason.TOO_LARGE), "detail": "Decoding needs more memory than is allowed."}
_CV_NO_MEMORY = -4  # cv2.Error.StsNoMem

Decode = Callable[[bytes, dict[str, Any]], tuple[Radiograph, ModelImage]]


def decode_image(data: bytes, options: dict[str, Any]) -> tuple[Radiograph, ModelImage]:
    """Read and prepare one image."""
    radiograph = read_radiograph(data, Reading(**options["reading"]))
    return radiograph, prepare(radiograph, options["profile"])


def serve(requests: BinaryIO, answers: BinaryIO, decode: Decode = decode_image) -> None:
    """Say that the process is ready, then answer requests until the other side closes the pipe."""
    send(answers, {})
    while True:
        try:
            options, data = receive(requests)
        except EOFError:
            return
        # Ends a process that is stuck in native code and has lost its parent.
        signal.setitimer(signal.ITIMER_REAL, options["alarm_s"])
        header, body = _answer(decode, data, options)
        signal.setitimer(signal.ITIMER_REAL, 0)
        send(answers, header, body)


def _answer(decode: Decode, data: bytes, options: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    try:
        if "picture" in options:
            return _picture(data, options)
        radiograph, image = decode(data, options)
    except RadiographError as error:
        known = {"facts": error.facts, "patient": error.patient, "study": error.study}
        return {"reason": str(error.reason), "detail": error.message, **known}, b""
    except MemoryError:
        return _TOO_LARGE, b""
    except Exception as error:
        if isinstance(error, cv2.error) and error.code == _CV_NO_MEMORY:
            return _TOO_LARGE, b""
        return {"bug": place_of(error)}, b""
    return _header(radiograph, image), image.pixels.astype("<u2").tobytes()


def _picture(data: bytes, options: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Draw one image for people to look at, from all its pixels."""
    picture = draw_picture(read_radiograph(data, Reading(**options["reading"])), *options["picture"])
    return {"shape": picture.shape}, picture.tobytes()


def _header(radiograph: Radiograph, image: ModelImage) -> dict[str, Any]:
    intensities = {name: value for name, value in vars(image).items() if name.startswith("intensity_")}
    return {
        "facts": asdict(radiograph.facts) | intensities,
        "affine": asdict(image.affine),
        "patient": radiograph.patient,
        "study": radiograph.study,
    }


def main(decode: Decode = decode_image) -> None:
    """Take over stdin and stdout for the protocol; whatever native code prints goes nowhere."""
    memory_bytes = int(sys.argv[1])
    for asks_to_stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # that is for the driver, which drains
        signal.signal(asks_to_stop, signal.SIG_IGN)  # an image must not fail because a whole group got the signal
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cv2.setNumThreads(1)
    with os.fdopen(os.dup(0), "rb") as requests, os.fdopen(os.dup(1), "wb") as answers:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        serve(requests, answers, decode)


if __name__ == "__main__":
    main()
