"""Bytes to pixel values: every encoding gives the same ones, every refusal has its reason."""

from __future__ import annotations

import struct
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.reading import SNIFF_BYTES, Radiograph, Reading, read_radiograph, sniff
from tests.dicom_files import dicom_bytes, dicom_dataset, gradient, make_dicom, make_encapsulated, picture

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG 2000": JPEG2000Lossless,
}
REAL = files("data_store") / "data"


def same(radiograph: Radiograph, expected: NDArray[Any]) -> None:
    assert radiograph.pixels.shape == expected.shape
    np.testing.assert_array_equal(radiograph.pixels.astype(np.int64), expected.astype(np.int64))


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=list(SYNTAXES))
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_values_survive_every_encoding(syntax: str, bits: int, signed: bool) -> None:
    pixels: NDArray[Any] = gradient(bits=bits)
    if signed:
        pixels = (pixels.astype(np.int32) - 2 ** (bits - 1)).astype(np.int16)
    if bits == 8:
        pixels = pixels.astype(np.int8 if signed else np.uint8)
    radiograph = read_radiograph(make_dicom(pixels, syntax, BitsStored=bits))
    same(radiograph, pixels)
    assert radiograph.valid is None
    assert not radiograph.inverted
    assert (radiograph.facts.transfer_syntax, radiograph.facts.bits_stored) == (syntax, bits)


def test_baseline_jpeg_in_dicom_is_what_a_jpeg_alone_gives() -> None:
    frame = picture(gradient(bits=8).astype(np.uint8), "JPEG", quality=95)
    radiograph = read_radiograph(make_encapsulated(frame, JPEGBaseline8Bit, 48, 40))
    same(radiograph, read_radiograph(frame).pixels)


@pytest.mark.parametrize("names", [("RG1_UNCR", "RG1_J2KR"), ("RG1_UNCI", "RG1_J2KI")])
def test_real_file_and_its_compressed_twin(names: tuple[str, str]) -> None:
    native, compressed = (read_radiograph((REAL / f"{name}.dcm").read_bytes()) for name in names)
    assert native.pixels.shape == (1955, 1841)
    assert native.inverted
    assert compressed.inverted
    np.testing.assert_array_equal(native.pixels, compressed.pixels)


def test_stray_bits_above_bits_stored_are_dropped() -> None:
    pixels = gradient(bits=12)
    same(read_radiograph(make_dicom(pixels | 0xA000, BitsStored=12)), pixels)


def test_bits_below_the_stored_ones_are_dropped() -> None:
    pixels = gradient(bits=12)
    same(read_radiograph(make_dicom((pixels << 4) | 0x5, BitsStored=12, HighBit=15)), pixels)


def test_rescale_is_applied_and_identity_keeps_integers() -> None:
    pixels = gradient()
    scaled = read_radiograph(make_dicom(pixels, BitsStored=12, RescaleSlope="0.5", RescaleIntercept="-100"))
    np.testing.assert_allclose(scaled.pixels, pixels * 0.5 - 100)
    identity = read_radiograph(make_dicom(pixels, BitsStored=12, RescaleSlope="1", RescaleIntercept="0"))
    assert identity.pixels.dtype == np.uint16


def test_modality_lut_wins_over_rescale() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [256, 0, 16])
    lut.ModalityLUTType = "US"
    lut.add_new("LUTData", "OW", (np.arange(256, dtype="<u2") * 3 + 7).tobytes())
    radiograph = read_radiograph(make_dicom(pixels, ModalityLUTSequence=[lut], RescaleSlope="9", RescaleIntercept="9"))
    same(radiograph, pixels.astype(int) * 3 + 7)


@pytest.mark.parametrize(("limit", "excluded"), [(None, [0]), (2, [0, 1, 2])])
def test_padding_is_marked(limit: int | None, excluded: list[int]) -> None:
    pixels = gradient(bits=12)
    pixels[:2, :3] = [[0, 1, 2], [0, 1, 2]]
    radiograph = read_radiograph(make_dicom(pixels, BitsStored=12, PixelPaddingValue=0, PixelPaddingRangeLimit=limit))
    assert radiograph.valid is not None
    np.testing.assert_array_equal(radiograph.valid, ~np.isin(pixels, excluded))


def test_padding_of_signed_pixels() -> None:
    pixels = gradient(bits=11).astype(np.int16)
    pixels[0, 0] = -2048
    radiograph = read_radiograph(make_dicom(pixels, BitsStored=12, PixelPaddingValue=-2048))
    assert radiograph.valid is not None
    assert np.argwhere(~radiograph.valid).tolist() == [[0, 0]]


@pytest.mark.parametrize(("photometric", "inverted"), [("MONOCHROME1", True), ("MONOCHROME2", False), (None, False)])
def test_polarity_is_told_and_pixels_are_left_alone(photometric: str | None, inverted: bool) -> None:
    radiograph = read_radiograph(make_dicom(gradient(), PhotometricInterpretation=photometric))
    assert radiograph.inverted is inverted
    same(radiograph, gradient())


@pytest.mark.parametrize("cut", [128, 132], ids=["mark without preamble", "meta without preamble"])
def test_no_preamble(cut: int) -> None:
    data = make_dicom(gradient())[cut:]
    assert sniff(data[:SNIFF_BYTES]) == "dicom"
    same(read_radiograph(data), gradient())


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_bare_data_set(syntax: str) -> None:
    data = make_dicom(gradient(), syntax)
    start = 132 + 12 + struct.unpack_from("<I", data, 140)[0]  # past the meta group, whose length comes first
    assert sniff(data[start : start + SNIFF_BYTES]) == "dicom"
    same(read_radiograph(data[start:]), gradient())


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_eight_bit_pictures(kind: str) -> None:
    pixels = gradient(bits=8).astype(np.uint8)
    radiograph = read_radiograph(picture(pixels, kind))
    assert np.abs(radiograph.pixels.astype(int) - pixels).max() <= (0 if kind == "PNG" else 40)
    assert (radiograph.facts.bits_stored, radiograph.facts.rows, radiograph.facts.columns) == (8, 48, 40)


def test_sixteen_bit_png_keeps_its_bits() -> None:
    pixels = gradient(bits=16)
    radiograph = read_radiograph(picture(pixels, "PNG"))
    same(radiograph, pixels)
    assert radiograph.facts.bits_stored == 16


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_in_colour_channels_is_grey(kind: str) -> None:
    pixels = gradient(bits=8).astype(np.uint8)
    radiograph = read_radiograph(picture(np.stack([pixels] * 3, axis=2), kind))
    assert radiograph.pixels.shape == pixels.shape
    assert np.corrcoef(radiograph.pixels.ravel(), pixels.ravel())[0, 1] > 0.98


def test_lateral_is_read_unless_frontal_only() -> None:
    data = make_dicom(gradient(), ViewPosition="LL")
    assert read_radiograph(data).facts.view_position == "LL"
    with pytest.raises(RadiographError, match="not frontal"):
        read_radiograph(data, Reading(frontal_only=True))
    assert (
        read_radiograph(make_dicom(gradient(), ViewPosition=None), Reading(frontal_only=True)).facts.view_source
        == "unknown"
    )


def test_facts() -> None:
    facts = read_radiograph(
        make_dicom(
            gradient(),
            BitsStored=12,
            ViewPosition="AP",
            SpecificCharacterSet="ISO_IR 192",
            Manufacturer="Ac\x1bme\u202e " + "x" * 200,
            ManufacturerModelName="M1",
            PatientSex="F",
            PatientAge="067Y",
        )
    ).facts
    assert (facts.view_position, facts.view_source, facts.photometric) == ("AP", "tag", "MONOCHROME2")
    assert (facts.rows, facts.columns, facts.bits_stored, facts.sex, facts.age_band) == (48, 40, 12, "F", "60-69")
    assert facts.device_model == "M1"
    assert facts.manufacturer is not None
    assert len(facts.manufacturer) <= 64
    assert facts.manufacturer.isprintable()


@pytest.mark.parametrize(
    ("age", "band"),
    [("067Y", "60-69"), ("009M", "0-9"), ("089Y", "80-89"), ("101Y", "90+"), ("old", None), ("", None)],
)
def test_age_bands(age: str, band: str | None) -> None:
    assert read_radiograph(make_dicom(gradient(), PatientAge=age)).facts.age_band == band


def test_dicom_that_pydicom_writes_without_a_group_length() -> None:
    dataset = dicom_dataset(gradient())
    del dataset.file_meta.MediaStorageSOPInstanceUID
    data = dicom_bytes(dataset)
    same(read_radiograph(data), gradient())


def test_text_that_has_swallowed_other_elements_is_dropped() -> None:
    facts = read_radiograph(make_dicom(gradient(), Manufacturer="Acme\x10\x00\x10\x00LO\x08\x00Miller")).facts
    assert facts.manufacturer is None


def test_identifiers() -> None:
    named = read_radiograph(
        make_dicom(gradient(), PatientID="P1", IssuerOfPatientID="North", StudyInstanceUID="1.2.840.1")
    )
    assert (named.patient, named.study) == ("North|P1", "1.2.840.1")
    bare = read_radiograph(make_dicom(gradient(), PatientID="P1", StudyInstanceUID="../../etc/x"))
    assert (bare.patient, bare.study) == ("P1", None)
    assert read_radiograph(make_dicom(gradient(), PatientID=None)).patient is None


def test_modality_and_padding_in_their_order() -> None:
    pixels = gradient(bits=12)
    pixels[0, 0] = 7
    data = make_dicom(
        pixels | 0xA000, BitsStored=12, RescaleSlope="2", RescaleIntercept="-50", PixelPaddingValue=7,
        PhotometricInterpretation="MONOCHROME1",
    )  # fmt: skip
    radiograph = read_radiograph(data)
    np.testing.assert_array_equal(radiograph.stored, pixels)
    np.testing.assert_allclose(radiograph.pixels, pixels * 2.0 - 50)
    assert radiograph.valid is not None
    assert not radiograph.valid[0, 0]
    assert radiograph.inverted
