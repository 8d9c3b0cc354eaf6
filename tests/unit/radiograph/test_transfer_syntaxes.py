"""Every transfer syntax that is read, in files made here: exact where nothing is lost, close where something is."""

from __future__ import annotations

import io
import struct
from importlib.resources import files
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.reading import CODECS, Reading, codec_table, read_radiograph
from cxrgaze_ray.schemas import Reason
from tests.dicom_files import compress, gradient, make_dicom, make_encapsulated

NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
WAVELETS = [JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K]
EXACT = [JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, *WAVELETS]
LOSSY: list[tuple[str, int, int, float]] = [
    (JPEGBaseline8Bit, 8, 95, 12 / 255),
    (JPEGExtended12Bit, 8, 95, 12 / 255),
    (JPEGExtended12Bit, 12, 95, 12 / 255),
    (JPEGLSNearLossless, 8, 3, 3 / 255),
    (JPEGLSNearLossless, 16, 3, 3 / 65535),
    (JPEG2000, 8, 4, 24 / 255),
    (JPEG2000, 12, 4, 16 / 255),
    (HTJ2K, 8, 0, 16 / 255),
]
"""Syntax, bits, level of the encoder, largest error as a share of the full range."""


def picture(bits: int, *, signed: bool = False) -> NDArray[Any]:
    pixels: NDArray[Any] = gradient(bits=bits)
    if signed:
        pixels = (pixels.astype(np.int32) - 2 ** (bits - 1)).astype(np.int16)
    return pixels.astype(np.int8 if signed else np.uint8) if bits == 8 else pixels


def encapsulated(pixels: NDArray[Any], frame: bytes, syntax: str, bits: int, **tags: Any) -> bytes:
    size = 8 * pixels.dtype.itemsize
    layout = {"BitsAllocated": size, "BitsStored": bits, "PixelRepresentation": int(pixels.dtype.kind == "i")}
    return make_encapsulated(frame, syntax, *pixels.shape, **(layout | tags))


def test_every_syntax_of_the_table_is_tested_here_and_there_is_no_other() -> None:
    tested = {*NATIVE, RLELossless, *EXACT, *(case[0] for case in LOSSY)}
    assert tested == {codec.uid for codec in CODECS}
    assert all(codec.available for codec in CODECS)
    assert not any("GPL" in codec.licence for codec in CODECS)
    assert codec_table().count("\n") == len(CODECS) + 1


@pytest.mark.parametrize("syntax", EXACT, ids=lambda uid: uid.split(".")[-1])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_lossless_gives_the_stored_integers(syntax: str, bits: int, signed: bool) -> None:
    pixels = picture(bits, signed=signed)
    photometric = "MONOCHROME1" if bits == 12 else "MONOCHROME2"
    frame = compress(pixels, syntax, bits)
    radiograph = read_radiograph(
        encapsulated(pixels, frame, syntax, bits, PhotometricInterpretation=photometric),
    )
    np.testing.assert_array_equal(radiograph.stored.astype(int), pixels.astype(int))
    assert radiograph.inverted is (photometric == "MONOCHROME1")
    assert (radiograph.facts.transfer_syntax, radiograph.facts.decode) == (syntax, "full")


@pytest.mark.parametrize(("syntax", "bits", "level", "share"), LOSSY)
def test_lossy_stays_within_its_tolerance(syntax: str, bits: int, level: int, share: float) -> None:
    pixels = picture(bits)
    frame = compress(pixels, syntax, bits, level=level if level else None)
    radiograph = read_radiograph(encapsulated(pixels, frame, syntax, bits))
    worst = np.abs(radiograph.stored.astype(int) - pixels.astype(int)).max()
    assert worst <= max(share * (2**bits - 1), 1)


@pytest.mark.parametrize("predictor", range(1, 8))
def test_jpeg_lossless_with_any_predictor(predictor: int) -> None:
    pixels = picture(12)
    frame = bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=12))
    radiograph = read_radiograph(encapsulated(pixels, frame, JPEGLossless, 12))
    np.testing.assert_array_equal(radiograph.stored, pixels)


def _second_decoder(syntax: str, frame: bytes) -> NDArray[Any]:
    """Decode by another implementation than ours of the syntax."""
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        return np.asarray(imagecodecs.jpegsof3_decode(frame))
    if syntax in (HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL):
        return np.asarray(imagecodecs.htj2k_decode(frame))  # OpenJPH
    if syntax == JPEGBaseline8Bit:
        return np.asarray(imagecodecs.jpeg8_decode(frame))
    with Image.open(io.BytesIO(frame)) as image:
        return np.asarray(image)


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1, *WAVELETS, JPEGBaseline8Bit])
def test_two_decoders_agree(syntax: str) -> None:
    bits = 8 if syntax == JPEGBaseline8Bit else 16
    pixels = picture(bits)
    frame = compress(pixels, syntax, bits, level=90 if bits == 8 else None)
    ours = read_radiograph(encapsulated(pixels, frame, syntax, bits)).stored
    np.testing.assert_array_equal(ours, _second_decoder(syntax, frame))


@pytest.mark.parametrize(
    ("compressed", "native"),
    [("MR_small_jpeg_ls_lossless", "MR_small"), ("MR_small_RLE", "MR_small"), ("MR_small_jp2klossless", "MR_small")],
)
def test_frames_of_other_encoders_are_what_their_native_twins_hold(compressed: str, native: str) -> None:
    folder = files("pydicom") / "data" / "test_files"
    source, twin = (dcmread(io.BytesIO((folder / f"{name}.dcm").read_bytes())) for name in (compressed, native))
    pixels = np.frombuffer(twin.PixelData, "<i2").reshape(twin.Rows, twin.Columns)
    frame = get_frame(source.PixelData, 0, number_of_frames=1)
    syntax = source.file_meta.TransferSyntaxUID
    radiograph = read_radiograph(encapsulated(pixels, frame, syntax, twin.BitsStored))
    np.testing.assert_array_equal(radiograph.stored, pixels)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1])
def test_stray_bits_above_the_stored_ones_are_dropped(syntax: str) -> None:
    pixels = picture(12)
    frame = compress(pixels | 0xA000, syntax, 16)
    radiograph = read_radiograph(encapsulated(pixels, frame, syntax, 12))
    np.testing.assert_array_equal(radiograph.stored, pixels)


def test_rle_keeps_bits_below_high_bit() -> None:
    pixels = picture(12)
    data = make_dicom((pixels << 4) | 0x5, RLELossless, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(read_radiograph(data).stored, pixels)


@pytest.mark.parametrize("size", [(7, 5), (1, 1), (129, 3), (64, 127)])
def test_rle_of_odd_sizes(size: tuple[int, int]) -> None:
    pixels = gradient(*size, bits=16)
    np.testing.assert_array_equal(read_radiograph(make_dicom(pixels, RLELossless)).stored, pixels)


def test_one_frame_in_many_fragments() -> None:
    pixels = picture(12)
    frame = compress(pixels, JPEGLSLossless, 16)
    data = encapsulated(pixels, frame, JPEGLSLossless, 12, PixelData=encapsulate([frame], fragments_per_frame=7))
    np.testing.assert_array_equal(read_radiograph(data).stored, pixels)


def test_wavelet_in_a_jp2_file() -> None:
    pixels = picture(8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG2000", no_jp2=False)
    assert buffer.getvalue()[4:8] == b"jP  "
    radiograph = read_radiograph(encapsulated(pixels, buffer.getvalue(), JPEG2000Lossless, 8))
    np.testing.assert_array_equal(radiograph.stored, pixels)


def _resized(frame: bytes, syntax: str, rows: int, columns: int) -> bytes:
    """Return a frame whose own header claims another size."""
    data = bytearray(frame)
    if syntax in WAVELETS:
        data[8:16] = struct.pack(">II", columns, rows)
    else:
        place = next(
            data.index(bytes([0xFF, mark])) for mark in (0xC0, 0xC1, 0xC3, 0xF7) if bytes([0xFF, mark]) in data
        )
        data[place + 5 : place + 9] = struct.pack(">HH", rows, columns)
    return bytes(data)


@pytest.mark.parametrize("syntax", [*EXACT, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless])
@pytest.mark.parametrize(
    ("size", "reason"), [((60000, 60000), Reason.TOO_LARGE), ((4000, 4000), Reason.CORRUPT), ((0, 40), Reason.CORRUPT)]
)
def test_a_frame_that_claims_another_size_is_refused_before_decoding(
    syntax: str, size: tuple[int, int], reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = picture(8)
    frame = _resized(
        compress(pixels, syntax, 8, level=1 if syntax in {case[0] for case in LOSSY} else None), syntax, *size
    )

    def decode(*_: object, **__: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr("cxrgaze_ray.radiograph.pixel_data.frames._decode", decode)
    with pytest.raises(RadiographError) as caught:
        read_radiograph(encapsulated(pixels, frame, syntax, 8))
    assert caught.value.reason == reason


def test_a_frame_of_more_bits_or_channels_than_the_tags_say_is_believed() -> None:
    frame = compress(picture(16), JPEGLosslessSV1, 16)
    channels = bytes(imagecodecs.jpegls_encode(np.stack([picture(8)] * 3, axis=2)))
    for pixels, data, oddities in (
        (picture(16), encapsulated(picture(8), frame, JPEGLosslessSV1, 8), "bits"),
        (picture(8), encapsulated(picture(8), channels, JPEGLSLossless, 8), "components"),
    ):
        radiograph = read_radiograph(data)
        np.testing.assert_array_equal(radiograph.stored, pixels)
        assert radiograph.facts.oddities == oddities


@pytest.mark.parametrize(
    "syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEGExtended12Bit, JPEG2000Lossless, HTJ2KLossless]
)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_frame_cut_short_is_refused(syntax: str, share: float) -> None:
    pixels = picture(12)
    frame = compress(pixels, syntax, 12, level=95 if syntax == JPEGExtended12Bit else None)
    with pytest.raises(RadiographError) as caught:
        read_radiograph(encapsulated(pixels, frame[: int(share * len(frame))], syntax, 12))
    assert caught.value.reason == Reason.TRUNCATED


def _rle(segments: int, offsets: list[int], body: bytes) -> bytes:
    return struct.pack("<16I", segments, *offsets, *[0] * (15 - len(offsets))) + body


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (_rle(16, [64], b"\x81a" * 60), Reason.CORRUPT),
        (_rle(1, [64], b"\x81a" * 60), Reason.CORRUPT),
        (_rle(2, [64, 2**31], b"\x81a" * 60), Reason.TRUNCATED),
        (_rle(2, [64, 10], b"\x81a" * 60), Reason.TRUNCATED),
        (_rle(2, [64, 66], b"\x81a" * 2), Reason.TRUNCATED),
        (_rle(2, [64, 100064], b"\x81a" * 100000), Reason.CORRUPT),
    ],
    ids=["too many segments", "too few", "offset off the end", "offset into the header", "too short", "bomb"],
)
def test_hostile_rle(frame: bytes, reason: Reason) -> None:
    with pytest.raises(RadiographError) as caught:
        read_radiograph(encapsulated(picture(12), frame, RLELossless, 12))
    assert caught.value.reason == reason


def test_pixel_data_longer_than_any_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrgaze_ray.radiograph.pixel_data.values.MAX_INFLATED", 1000)
    with pytest.raises(RadiographError) as caught:
        read_radiograph(make_dicom(gradient(bits=16), JPEG2000Lossless))
    assert caught.value.reason == Reason.TOO_LARGE


SMOOTH = gradient(1600, 1300, bits=12)
for _ in range(2):
    SMOOTH = (SMOOTH[:-1, :-1] // 4 + SMOOTH[1:, 1:] // 4 + SMOOTH[1:, :-1] // 4 + SMOOTH[:-1, 1:] // 4).astype(
        np.uint16
    )


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize(("syntax", "bits"), [(JPEG2000Lossless, 12), (JPEG2000Lossless, 8), (HTJ2KLossless, 16)])
def test_reduced_wavelet_is_the_image_at_half_its_size(syntax: str, bits: int, signed: bool) -> None:
    pixels: NDArray[Any] = (SMOOTH.astype(np.int32) >> (12 - min(bits, 12))) - (
        2 ** (min(bits, 12) - 1) if signed else 0
    )
    pixels = pixels.astype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")
    data = encapsulated(pixels, compress(pixels, syntax, bits), syntax, bits)
    reduced = read_radiograph(data, Reading(reduced=True))
    rows, columns = pixels.shape
    assert (reduced.facts.decode, reduced.facts.rows, reduced.facts.columns) == ("1/2", rows, columns)
    assert reduced.stored.shape == (-(-rows // 2), -(-columns // 2))
    assert reduced.stored.dtype == read_radiograph(data).stored.dtype
    area = pixels[: rows // 2 * 2, : columns // 2 * 2].reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))
    near = reduced.stored[: rows // 2, : columns // 2] - area
    assert np.abs(near).mean() < 0.01 * 2 ** min(bits, 12)


@pytest.mark.parametrize(
    ("size", "decode"), [((640, 512), "full"), ((1279, 1023), "1/2"), ((2560, 2048), "1/4"), ((5120, 300), "1/8")]
)
def test_the_lowest_resolution_that_holds_the_model_image(size: tuple[int, int], decode: str) -> None:
    frame = compress(np.zeros(size, np.uint8), JPEGBaseline8Bit, 8, level=50)
    for data in (frame, make_encapsulated(frame, JPEGBaseline8Bit, *size)):
        radiograph = read_radiograph(data, Reading(reduced=True))
        by = {"full": 1, "1/2": 2, "1/4": 4, "1/8": 8}[decode]
        assert radiograph.facts.decode == decode
        assert radiograph.pixels.shape == (-(-size[0] // by), -(-size[1] // by))
        assert (radiograph.facts.rows, radiograph.facts.columns) == size


def _with_levels(pixels: NDArray[Any], resolutions: int) -> bytes:
    return bytes(
        imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, level=0, resolutions=resolutions)
    )


def test_too_few_resolution_levels_give_the_lowest_there_is() -> None:
    pixels = np.pad(SMOOTH.astype(np.uint16), 700)
    for resolutions, decode in ((6, "1/4"), (2, "1/2"), (1, "full")):
        data = encapsulated(pixels, _with_levels(pixels, resolutions), JPEG2000Lossless, 16)
        assert read_radiograph(data, Reading(reduced=True)).facts.decode == decode


def test_whole_resolution_where_pixels_cannot_be_averaged() -> None:
    frame = compress(SMOOTH, JPEG2000Lossless, 16)
    for bits, tags in ((16, {"PixelPaddingValue": 0}), (12, {})):
        data = encapsulated(SMOOTH, frame, JPEG2000Lossless, bits, **tags)
        assert read_radiograph(data, Reading(reduced=True)).facts.decode == "full"
    lossless = encapsulated(SMOOTH, compress(SMOOTH, JPEGLosslessSV1, 12), JPEGLosslessSV1, 12)
    assert read_radiograph(lossless, Reading(reduced=True)).facts.decode == "full"
