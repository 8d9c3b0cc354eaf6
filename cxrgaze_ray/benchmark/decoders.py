"""The libraries that can decode a format, side by side: compressed bytes to stored values, and nothing else.

Which of them ours calls is chosen in `radiograph.pixel_data.frames` and `radiograph.reading.raster`; this race is the
reason. Each runs as it comes from its package, on one thread.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from openjpeg.utils import decode as openjpeg_decode
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import get_frame
from pydicom.uid import DeflatedExplicitVRLittleEndian, HTJ2KLossless, JPEG2000Lossless, JPEGBaseline8Bit

from cxrgaze_ray.benchmark.samples import Sample
from cxrgaze_ray.benchmark.timing import Timing, race

Values = NDArray[Any]
Decode = Callable[[bytes], Values]

_PREFIX = 132
_GROUP_LENGTH = 12


@dataclass(frozen=True)
class DecoderResult:
    """One library on one format.

    Attributes
    ----------
    format, library
        What was decoded, and by what; the first library of a format is the one that ours calls. None where no library
        of this race takes it.
    timing
        Seconds an image on one core; None without a library.
    same
        Whether its values are the first library's to the bit; None if there is no other.
    """

    format: str
    library: str | None
    timing: Timing | None
    same: bool | None


def bench_decoders(samples: list[Sample], rounds: int = 5) -> Iterator[DecoderResult]:
    """Race the libraries on each sample; one that a single library takes, or none, is told as such."""
    for sample in samples:
        data, able = _candidates(sample.data)
        libraries = {name: decode for name, decode in able.items() if _decodes(decode, data)}
        if not libraries:
            yield DecoderResult(sample.name, None, None, None)
            continue
        timings = race({name: partial(decode, data) for name, decode in libraries.items()}, rounds)
        first = next(iter(libraries.values()))(data)
        for name, decode in libraries.items():
            same = bool(np.array_equal(decode(data), first)) if len(libraries) > 1 else None
            yield DecoderResult(sample.name, name, timings[name], same)


def _candidates(data: bytes) -> tuple[bytes, dict[str, Decode]]:
    """Return what a file's decoder is given, and the libraries that take it."""
    if data[128:132] != b"DICM":
        return data, _JPEG if data.startswith(b"\xff\xd8") else _PNG
    dataset = dcmread(io.BytesIO(data))
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == DeflatedExplicitVRLittleEndian:
        meta = _PREFIX + _GROUP_LENGTH + int(dataset.file_meta.FileMetaInformationGroupLength)
        return data[meta:], _DEFLATE
    libraries = _FRAMES.get(syntax, {})
    return get_frame(dataset.PixelData, 0, number_of_frames=1) if libraries else b"", libraries


def _decodes(decode: Decode, data: bytes) -> bool:
    """Return whether a library takes these bytes: not each takes colours, 16 bits, or a stream of any size."""
    try:
        return decode(data).size > 0
    except Exception:  # whatever a library raises
        return False


def _pillow(data: bytes) -> Values:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def _opencv(data: bytes) -> Values:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:  # its way of raising
        raise ValueError("OpenCV can't decode this.")
    return np.asarray(decoded)


def _inflated(data: bytes) -> Values:
    return np.frombuffer(zlib.decompress(data, -zlib.MAX_WBITS), np.uint8)


def _libdeflate(data: bytes) -> Values:
    # it must be told a size: a bound is all that a stream of unknown length gives
    return np.frombuffer(imagecodecs.deflate_decode(data, raw=True, out=32 * len(data)), np.uint8)


_JPEG: dict[str, Decode] = {
    "Pillow (libjpeg-turbo)": _pillow,
    "simplejpeg (libjpeg-turbo)": lambda data: simplejpeg.decode_jpeg(data, "GRAY")[..., 0],
    "imagecodecs (libjpeg-turbo)": imagecodecs.jpeg8_decode,
    "OpenCV (libjpeg-turbo)": _opencv,
}
_PNG: dict[str, Decode] = {
    "Pillow (zlib)": _pillow,
    "imagecodecs (libpng)": imagecodecs.png_decode,
    "OpenCV (libpng)": _opencv,
}
_DEFLATE: dict[str, Decode] = {"zlib": _inflated, "imagecodecs (libdeflate)": _libdeflate}
_FRAMES: dict[str, dict[str, Decode]] = {
    JPEGBaseline8Bit: _JPEG,
    JPEG2000Lossless: {
        "pylibjpeg-openjpeg (OpenJPEG)": openjpeg_decode,
        "imagecodecs (OpenJPEG)": partial(imagecodecs.jpeg2k_decode, numthreads=1),
        "Pillow (OpenJPEG)": _pillow,
    },
    HTJ2KLossless: {
        "pylibjpeg-openjpeg (OpenJPEG)": openjpeg_decode,
        "imagecodecs (OpenJPH)": imagecodecs.htj2k_decode,
    },
}
