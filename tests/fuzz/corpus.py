"""Small sound files of every format: what the mutants are made of."""

from __future__ import annotations

import io
from collections.abc import Callable

import imagecodecs
import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
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

from tests.awkward_files import colour_dicom, palette_dicom, phone, png, with_element
from tests.dicom_files import dicom_bytes, dicom_dataset, gradient, make_dicom, make_encapsulated, picture

ROWS, COLUMNS = 40, 36
WORDS = gradient(ROWS, COLUMNS, 12)
SLOPE = (np.add.outer(np.arange(ROWS), np.arange(COLUMNS)) * 800).astype(np.uint16)
BYTES = gradient(ROWS, COLUMNS, 8).astype(np.uint8)


def corpus() -> dict[str, bytes]:
    """Return files by name."""
    return _native() | _compressed() | _encapsulated() | _dressed() | _rasters() | _colours()


def _native() -> dict[str, bytes]:
    syntaxes = {
        "explicit": ExplicitVRLittleEndian,
        "implicit": ImplicitVRLittleEndian,
        "big-endian": ExplicitVRBigEndian,
        "deflated": DeflatedExplicitVRLittleEndian,
    }
    files = {name: make_dicom(WORDS, syntax, BitsStored=12) for name, syntax in syntaxes.items()}
    signed = make_dicom(WORDS.astype(np.int16) - 1024, PhotometricInterpretation="MONOCHROME1", RescaleIntercept="-7")
    return files | {"signed": signed, "bytes": make_dicom(BYTES), "bare": files["implicit"][132:]}


def _compressed() -> dict[str, bytes]:
    baseline = picture(BYTES, "JPEG", quality=90)
    wavelet = make_dicom(WORDS, JPEG2000Lossless, BitsStored=12)
    return {
        "rle": make_dicom(WORDS, RLELossless, BitsStored=12),
        "rle-bytes": make_dicom(BYTES, RLELossless),
        "jpeg-baseline": make_encapsulated(baseline, JPEGBaseline8Bit, ROWS, COLUMNS),
        "jpeg-progressive": make_encapsulated(
            picture(BYTES, "JPEG", progressive=True), JPEGBaseline8Bit, ROWS, COLUMNS
        ),
        "fragments": make_encapsulated(
            baseline, JPEGBaseline8Bit, ROWS, COLUMNS, PixelData=encapsulate([baseline], fragments_per_frame=3)
        ),
        "jpeg2000": wavelet,
    }


def _encapsulated() -> dict[str, bytes]:
    """Return files of the syntaxes that pydicom can't write."""
    frames = {
        "jpeg-extended": (JPEGExtended12Bit, imagecodecs.jpeg8_encode(WORDS, level=95, bitspersample=12)),
        "jpeg-lossless": (JPEGLosslessSV1, imagecodecs.jpeg8_encode(WORDS, lossless=True, bitspersample=12)),
        "jpeg-lossless-57": (JPEGLossless, imagecodecs.ljpeg_encode(WORDS, bitspersample=12)),
        "jpeg-ls": (JPEGLSLossless, imagecodecs.jpegls_encode(WORDS)),
        "jpeg-ls-near": (JPEGLSNearLossless, imagecodecs.jpegls_encode(WORDS, level=2)),
        "jpeg2000-lossy": (JPEG2000, imagecodecs.jpeg2k_encode(WORDS, level=60, codecformat="j2k", resolutions=3)),
        "jpeg2000-boxed": (JPEG2000, imagecodecs.jpeg2k_encode(WORDS, codecformat="jp2", reversible=True)),
        "htj2k": (HTJ2KLossless, imagecodecs.htj2k_encode(WORDS, reversible=True)),
    }
    tags = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    return {
        name: make_encapsulated(bytes(frame), syntax, ROWS, COLUMNS, **tags) for name, (syntax, frame) in frames.items()
    }


def _dressed() -> dict[str, bytes]:
    """Return native files with all that a radiograph may wear."""
    return {
        "tables": _with(_tables),
        "padding": make_dicom(WORDS, PixelPaddingValue=0, PixelPaddingRangeLimit=40),
        "overlay": _with(_overlay),
        "sequences": _with(_sequences),
    }


def _with(dress: Callable[[Dataset], None]) -> bytes:
    dataset = dicom_dataset(WORDS, BitsStored=12)
    dress(dataset)
    return dicom_bytes(dataset)


def _tables(dataset: Dataset) -> None:
    dataset.WindowCenter, dataset.WindowWidth = ["2048", "40"], ["4096", "400"]
    dataset.VOILUTFunction = "SIGMOID"
    dataset.PresentationLUTShape = "INVERSE"
    for keyword, values in (("ModalityLUTSequence", 4096), ("VOILUTSequence", 256)):
        table = Dataset()
        table.LUTDescriptor = [values, 0, 16]
        table.ModalityLUTType = "US"
        table.LUTData = np.arange(values, dtype="<u2").tobytes()
        table["LUTData"].VR = "OW"
        table["LUTDescriptor"].VR = "US"
        setattr(dataset, keyword, [table])


def _overlay(dataset: Dataset) -> None:
    dataset.add_new(0x60000010, "US", ROWS)
    dataset.add_new(0x60000011, "US", COLUMNS)
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    dataset.add_new(0x60003000, "OW", bytes(ROWS * COLUMNS // 8))


def _sequences(dataset: Dataset) -> None:
    dataset.private_block(0x0009, "ACME", create=True).add_new(0x01, "LO", "private")
    icon = Dataset()
    icon.Rows = icon.Columns = 8
    icon.SamplesPerPixel, icon.BitsAllocated, icon.BitsStored, icon.HighBit, icon.PixelRepresentation = 1, 8, 8, 7, 0
    icon.PhotometricInterpretation = "MONOCHROME2"
    icon.PixelData = bytes(64)
    icon["PixelData"].VR = "OB"
    dataset.IconImageSequence = [icon]
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "399348003", "SCT", "antero-posterior"
    dataset.ViewCodeSequence = [code]
    dataset["ViewCodeSequence"].is_undefined_length = True
    code.is_undefined_length_sequence_item = True


def _rasters() -> dict[str, bytes]:
    grey_in_colour = np.stack([BYTES] * 3, axis=2)
    palette = io.BytesIO()
    Image.fromarray(BYTES).convert("P").save(palette, "PNG", transparency=3)
    return {
        "png": picture(BYTES, "PNG"),
        "png-16": picture(WORDS, "PNG"),
        "png-colour": picture(grey_in_colour, "PNG"),
        "png-palette": palette.getvalue(),
        "jpg": picture(BYTES, "JPEG"),
        "jpg-progressive": picture(BYTES, "JPEG", progressive=True),
        "jpg-colour": picture(grey_in_colour, "JPEG", exif=_exif()),
    }


def _colours() -> dict[str, bytes]:
    """Return grey in channels and palettes, and what needs more than Pillow."""
    rgb, ramp = np.stack([BYTES] * 3, axis=2), np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)
    luma = np.stack([BYTES, np.full_like(BYTES, 128), np.full_like(BYTES, 128)], axis=2)
    ls = bytes(imagecodecs.jpegls_encode(rgb))
    return {
        "rgb": colour_dicom(rgb, "RGB"),
        "rgb-planes": colour_dicom(rgb, "RGB", planar=1),
        "luma-chroma": colour_dicom(luma, "YBR_FULL"),
        "palette": palette_dicom(BYTES, ramp),
        "rgb-jpeg": _colour_frame(picture(rgb, "JPEG"), JPEGBaseline8Bit),
        "rgb-jpeg-ls": _colour_frame(ls, JPEGLSLossless),
        "odd-element": with_element(make_dicom(WORDS, BitsStored=12), b"\x19\x00\x01\x10??\x06\x00abcdef"),
        "not-square": make_dicom(WORDS, BitsStored=12, PixelSpacing=["0.4", "0.2"]),
        "sixteen-of-twelve": make_dicom(SLOPE, BitsStored=12),
        "png-16-alpha": png(np.stack([WORDS, np.full_like(WORDS, 65535)], axis=2)),
        "png-16-colour": png(np.stack([WORDS] * 3, axis=2)),
        "mpo": phone(6),
    }


def _colour_frame(frame: bytes, syntax: str) -> bytes:
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    return make_encapsulated(frame, syntax, ROWS, COLUMNS, **tags)


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()
