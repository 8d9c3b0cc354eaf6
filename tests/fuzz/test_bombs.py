"""Small files that ask for much, by hand: each is refused, by the process that then decodes the next one."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.schemas import Reason
from tests.dicom_files import gradient, make_dicom, make_encapsulated, picture
from tests.fuzz.corpus import BYTES, COLUMNS, ROWS, WORDS
from tests.fuzz.formats import png_file, zeros
from tests.fuzz.harness import peaks

SOUND = make_dicom(WORDS)
MOST_BYTES = 2**30


def deflated() -> bytes:
    whole = make_dicom(WORDS, DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(whole[140:144], "little")
    return whole[:start] + zeros(2**20) * 2000 + b"\x03\0"


def png(*chunks: tuple[bytes, bytes], rows: int = ROWS, columns: int = COLUMNS, depth: int = 8) -> bytes:
    head = (b"IHDR", struct.pack(">IIBBBBB", columns, rows, depth, 0, 0, 0, 0))
    return png_file([head, *chunks, (b"IEND", b"")])


def text_bomb() -> bytes:
    image = (b"IDAT", zlib.compress(bytes(ROWS * (COLUMNS + 1))))
    return png((b"zTXt", b"k\0\0\x78\xda" + zeros(2**20) * 2000 + b"\x03\0\0\0\0\0"), image)


def many_scans() -> bytes:
    """A progressive JPEG near the size limit whose last scan comes again and again."""
    small = picture(BYTES, "JPEG", progressive=True)
    frame = small.index(b"\xff\xc2") + 5
    large = small[:frame] + struct.pack(">HH", 8000, 8000) + small[frame + 4 :]
    scan = large[large.rindex(b"\xff\xda") : -2]
    return large[:-2] + scan * 500 + large[-2:]


def wavelet(**fields: int) -> bytes:
    """A JPEG 2000 file near the size limit, by its tags and by its header."""
    data = bytearray(make_dicom(WORDS, JPEG2000Lossless, BitsStored=12))
    start = data.index(b"\xff\x4f\xff\x51") + 8
    for place, value in ((0, fields["columns"]), (4, fields["rows"]), (16, fields["tile"]), (20, fields["tile"])):
        struct.pack_into(">I", data, start + place, value)
    for tag, value in ((b"\x28\0\x10\0US\2\0", fields["rows"]), (b"\x28\0\x11\0US\2\0", fields["columns"])):
        struct.pack_into("<H", data, data.index(tag) + 8, value)
    return bytes(data)


BOMBS: dict[str, tuple[Callable[[], bytes], set[Reason]]] = {
    "deflate": (deflated, {Reason.TOO_LARGE}),
    "claimed size": (lambda: make_dicom(WORDS, Rows=60000, Columns=30000), {Reason.TOO_LARGE}),
    "RLE": (lambda: make_encapsulated(bytes(64), RLELossless, 60000, 30000), {Reason.TOO_LARGE}),
    "RLE in bounds": (
        lambda: make_encapsulated(bytes(64), RLELossless, 8000, 8000),
        {Reason.CORRUPT, Reason.TRUNCATED},
    ),
    "JPEG in bounds": (
        lambda: make_encapsulated(picture(BYTES, "JPEG"), JPEGBaseline8Bit, 8000, 8000),
        {Reason.CORRUPT},
    ),
    "one tile": (lambda: wavelet(rows=8000, columns=8000, tile=8000), {Reason.CORRUPT, Reason.TRUNCATED}),
    "tiles of one pixel": (lambda: wavelet(rows=8000, columns=8000, tile=1), {Reason.CORRUPT, Reason.TRUNCATED}),
    "PNG size": (lambda: png(rows=60000, columns=30000), {Reason.TOO_LARGE}),
    "PNG text": (text_bomb, {Reason.CORRUPT, Reason.TOO_LARGE}),
    "no palette": (
        lambda: png_file(
            [
                (b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 3, 0, 0, 0)),
                (b"tRNS", b"\xff\0"),
                (b"IDAT", zlib.compress(bytes(6))),
                (b"IEND", b""),
            ]
        ),
        {Reason.CORRUPT},
    ),
    "item delimiter last": (
        lambda: SOUND[: SOUND.index(b"\xe0\x7f\x10\x00OW")] + b"\xfe\xff\xdd\xe0\0\0\0\0",
        {Reason.CORRUPT, Reason.NO_PIXEL_DATA, Reason.TRUNCATED},
    ),
}


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        decoder.decode(SOUND)
        yield decoder


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_bounds_and_the_next_image_decodes(decoder: Decoder, name: str) -> None:
    make, reasons = BOMBS[name]
    before = decoder._child
    with pytest.raises(RadiographError) as caught:
        decoder.decode(make())
    assert caught.value.reason in reasons
    assert decoder.decode(SOUND).pixels.any()
    assert decoder._child is before
    assert peaks(decoder)[0] < MOST_BYTES


def test_what_follows_the_pixels_is_not_read(decoder: Decoder) -> None:
    """64 MiB of padding would take a minute, element by element."""
    np.testing.assert_array_equal(decoder.decode(SOUND + bytes(64 * 2**20)).pixels, decoder.decode(SOUND).pixels)


def test_endless_scans_end() -> None:
    with Decoder(timeout_s=3) as decoder:
        with pytest.raises(RadiographError) as caught:
            decoder.decode(many_scans())
        assert caught.value.reason in {Reason.DECODE_TIMEOUT, Reason.CORRUPT, Reason.TRUNCATED}
        assert decoder.decode(SOUND).pixels.any()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["native", "JPEG 2000", "PNG", "rescaled"])
def test_the_largest_image_decodes_in_time_and_memory(kind: str) -> None:
    rng = np.random.default_rng(3)
    pixels = np.tile(gradient(1024, 1024, 16), (8, 8))
    pixels ^= rng.integers(0, 64, pixels.shape, np.uint16)
    if kind == "PNG":
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)
        data = file.getvalue()
    else:
        tags: dict[str, Any] = (
            {"RescaleSlope": "1.5", "RescaleIntercept": "-3", "PixelPaddingValue": 3} if kind == "rescaled" else {}
        )
        data = make_dicom(pixels, JPEG2000Lossless if kind == "JPEG 2000" else ExplicitVRLittleEndian, **tags)
    with Decoder() as decoder:
        start = time.perf_counter()
        assert decoder.decode(data).affine.rows == 8192
        seconds = time.perf_counter() - start
        assert decoder.decode(SOUND).pixels.any()
        print(kind, f"{seconds:.0f} s", *(f"{peak / 2**30:.2f} GiB" for peak in peaks(decoder)))
