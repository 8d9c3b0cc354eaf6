"""Whatever stands in a tag, and whatever the bytes are: a radiograph as promised, or one of our reasons."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from pydicom.datadict import tag_for_keyword

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.preprocess import prepare
from cxrgaze_ray.radiograph.reading import Radiograph, Reading, read_radiograph
from cxrgaze_ray.schemas import HEIGHT, WIDTH, Reason
from tests.dicom_files import CANARY, gradient, make_dicom, picture

SOUND = make_dicom(gradient(12, 10))
PIXELS = SOUND.index(b"\xe0\x7f\x10\x00OW")

WORD_TAGS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PlanarConfiguration", "PixelPaddingValue", "PixelPaddingRangeLimit",
)  # fmt: skip
TEXT_TAGS = (
    "NumberOfFrames", "RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth",
    "VOILUTFunction", "PhotometricInterpretation", "PresentationLUTShape", "PresentationIntentType", "ViewPosition",
    "BodyPartExamined", "PatientAge", "PatientSex", "Manufacturer", "ManufacturerModelName", "PatientOrientation",
    "StudyDescription", "SeriesDescription", "SpecificCharacterSet", "ImageType", "PixelIntensityRelationship",
)  # fmt: skip

in_ci = settings(derandomize=True, max_examples=150, suppress_health_check=[HealthCheck.too_slow])

numbers = some.floats(width=64).map(repr) | some.integers(-(2**70), 2**70).map(str)
values = (
    numbers.map(str.encode)
    | some.lists(numbers, min_size=2, max_size=4).map(lambda several: "\\".join(several).encode())
    | some.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | some.binary(max_size=40)
)


def element(keyword: str, value: bytes) -> bytes:
    """Return an element of explicit little endian."""
    tag = tag_for_keyword(keyword) or 0
    kind = b"US" if keyword in WORD_TAGS else b"LO"
    padded = value + b" " * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, kind, len(padded)) + padded


def with_elements(changed: dict[str, bytes]) -> bytes:
    """Return the sound file with elements added or replaced: where a tag stands twice, the later one counts."""
    added = b"".join(element(keyword, value) for keyword, value in changed.items())
    return SOUND[:PIXELS] + added + SOUND[PIXELS:]


def check(data: bytes, reading: Reading | None = None) -> None:
    refused = None
    try:
        radiograph = read_radiograph(data, reading)
        image = prepare(radiograph)
    except RadiographError as error:
        refused = error
    if refused is None:
        check_radiograph(radiograph)
        assert image.pixels.shape == (HEIGHT, WIDTH)
        assert image.pixels.dtype == np.uint16
        assert 0 <= image.intensity_p1 <= image.intensity_p50 <= image.intensity_p99 <= 1
    else:
        assert refused.reason in set(Reason)
        assert CANARY not in refused.message
        assert refused.message.endswith(".")


def check_radiograph(radiograph: Radiograph) -> None:
    stored, pixels, valid = radiograph.stored, radiograph.pixels, radiograph.valid
    assert stored.ndim == 2
    assert stored.dtype in (np.uint8, np.uint16, np.int8, np.int16)
    assert pixels.shape == stored.shape
    assert pixels.dtype in (stored.dtype, np.float32)
    assert np.isfinite(pixels).all()
    assert valid is None or (valid.dtype == np.bool_ and valid.shape == stored.shape)
    for fact in vars(radiograph.facts).values():
        assert not isinstance(fact, str) or (len(fact.encode()) <= 4 * 64 and fact.isprintable())


@in_ci
@given(some.dictionaries(some.sampled_from(TEXT_TAGS), values, min_size=1, max_size=4))
def test_any_text_in_any_tag(changed: dict[str, bytes]) -> None:
    check(with_elements(changed))


@in_ci
@given(
    some.dictionaries(
        some.sampled_from(WORD_TAGS),
        some.lists(some.sampled_from([0, 1, 2, 8, 10, 12, 15, 16, 32]) | some.integers(0, 65535), max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_any_number_in_any_tag(changed: dict[str, list[int]]) -> None:
    check(with_elements({keyword: struct.pack(f"<{len(words)}H", *words) for keyword, words in changed.items()}))


@in_ci
@given(
    some.binary(max_size=400),
    some.sampled_from([SOUND[:132], SOUND[:PIXELS], b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b""]),
)
def test_any_bytes(data: bytes, before: bytes) -> None:
    check(before + data)


@in_ci
@given(some.data())
def test_any_shape_and_depth_of_a_sound_image(data: some.DataObject) -> None:
    draw: Any = data.draw
    rows, columns = draw(some.integers(1, 40)), draw(some.integers(1, 40))
    stored = draw(some.integers(1, 16))
    high = draw(some.integers(stored - 1, 15))
    seed = draw(some.integers(0, 99))
    pixels = np.random.default_rng(seed).integers(0, 65536, (rows, columns), np.uint16)
    check(make_dicom(pixels, BitsStored=stored, HighBit=high, PixelRepresentation=draw(some.integers(0, 1))))
    check(picture(pixels, "PNG"))
