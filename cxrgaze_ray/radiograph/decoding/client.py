"""The side that asks: starts the decoding process, and says what became of an image that took it down."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.decoding.child import Child, Ended, SlowStart
from cxrgaze_ray.radiograph.preprocess import DEFAULT_PROFILE
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.schemas import HEIGHT, WIDTH, Affine, Reason

MEMORY_BYTES = 4 * 2**30
"""Address space of a decoding process: the libraries, and a 64 megapixel image in float32 a few times over."""

_LONGEST_ANSWER = 2**23
"""A picture of 8 megapixels; a model image is shorter."""


@dataclass(frozen=True)
class Decoded:
    """A ready image.

    Attributes
    ----------
    pixels
        uint16 (640, 512), see `preprocess.ModelImage`.
    affine
        From source pixels to model pixels.
    facts
        Facts by the names of `schemas.FACT_FIELDS`.
    patient, study
        The file's own identifiers, to be hashed before they stand anywhere.
    """

    pixels: NDArray[np.uint16]
    affine: Affine
    facts: dict[str, Any]
    patient: str | None = None
    study: str | None = None


class Decoder:
    """Decodes one image at a time in a process of its own, started when first needed and again after a crash.

    Parameters
    ----------
    profile
        Preprocessing profile.
    reading
        How files are read; what the archive knows of an image's view comes with its bytes.
    timeout_s
        Longest time for one image, in seconds.
    command
        Command line of the decoding process; tests start one that breaks.
    """

    def __init__(
        self,
        profile: str = DEFAULT_PROFILE,
        *,
        reading: Reading | None = None,
        timeout_s: float = 60.0,
        memory_bytes: int = MEMORY_BYTES,
        command: Sequence[str] = (sys.executable, "-P", "-m", "cxrgaze_ray.radiograph.decoding.worker"),
    ) -> None:
        self._reading = reading or Reading()
        self._options = {"profile": profile, "alarm_s": timeout_s + 1}
        self._timeout_s = timeout_s
        self._command = [*command, str(memory_bytes)]
        self._lock = threading.Lock()
        self._child: Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decode(self, data: bytes, view: str | None = None, view_source: str = "unknown") -> Decoded:
        """Decode one image; threads wait for each other.

        Parameters
        ----------
        data
            The whole file.
        view, view_source
            What the archive's tables say of the view: see `radiograph.Reading`.

        Raises
        ------
        RadiographError
            With the reason, DECODER_CRASH and DECODE_TIMEOUT included.
        EnvironmentFault
            If no decoding process starts: not the image's fault.
        RuntimeError
            If our own code in the process failed: a bug, not the image's fault.
        """
        reading = replace(self._reading, known_view=view, known_view_source=view_source)
        with self._lock:
            return _read(*self._ask(self._options | {"reading": asdict(reading)}, data))

    def picture(self, data: bytes, height: int, width: int) -> NDArray[np.uint8]:
        """Draw one image for people to look at: see `preprocess.draw_picture`.

        Parameters
        ----------
        data
            The whole file.
        height, width
            Box in pixels that the picture fills, its aspect kept; at most 8 megapixels.

        Raises
        ------
        RadiographError, EnvironmentFault, RuntimeError
            As `decode`.
        """
        reading = replace(self._reading, reduced=False)
        with self._lock:
            header, body = self._ask(self._options | {"reading": asdict(reading), "picture": (height, width)}, data)
        _refuse(header)
        return np.frombuffer(body, np.uint8).reshape(header["shape"])

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._end()

    def _ask(self, header: dict[str, Any], data: bytes, *, again: bool = False) -> tuple[dict[str, Any], bytes]:
        try:
            return self._started().ask(header, data, limit_s=self._timeout_s, max_body=_LONGEST_ANSWER)
        except Ended as ended:
            self._child = None
            if ended.late:
                raise RadiographError(Reason.DECODE_TIMEOUT, "Decoding took longer than an image may.") from None
            if ended.killed and not again:  # once may be bad luck: the machine was short of memory
                return self._ask(header, data, again=True)
            raise RadiographError(Reason.DECODER_CRASH, "The image took its decoding process down.") from None

    def _started(self) -> Child:
        if self._child is not None and not self._child.is_alive():
            self._end()  # it died between two images, which is neither's fault
        if self._child is None:
            try:
                self._child = Child(self._command)
            except SlowStart:  # a machine that was busy for so long may be free again, and a job is worth one more try
                self._child = Child(self._command)
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


def _read(header: dict[str, Any], body: bytes) -> Decoded:
    """Return the image of an answer, or raise what it says."""
    _refuse(header)
    pixels = np.frombuffer(body, "<u2").reshape(HEIGHT, WIDTH)
    return Decoded(pixels, Affine.of(header["affine"]), header["facts"], header["patient"], header["study"])


def _refuse(header: dict[str, Any]) -> None:
    """Raise what an answer says, if that is no image."""
    if "reason" in header:
        raise _refusal(header)  # made elsewhere: a frame of its trace that names it would keep the file in memory
    if "bug" in header:
        raise RuntimeError(f"decoding failed with {header['bug']}")


def _refusal(header: dict[str, Any]) -> RadiographError:
    refused = RadiographError(Reason(header["reason"]), header["detail"])
    refused.facts = header.get("facts", {})
    refused.patient, refused.study = header.get("patient"), header.get("study")
    return refused
