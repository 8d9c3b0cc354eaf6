"""Small DICOM files, made from arrays."""

from __future__ import annotations

import io
from typing import Any, Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from openjpeg import utils as openjpeg
from PIL import Image
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    generate_uid,
)

CANARY = "CANARY-7f3a"
"""Planted in every tag that may name a patient; no output may hold it."""

LOSSLESS = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
)
"""Transfer syntaxes that `make_lossless` writes, every pixel kept."""


def gradient(rows: int = 48, columns: int = 40, bits: int = 12) -> NDArray[np.uint16]:
    """Return a picture of many values that is no mirror image of itself."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:rows, :columns]
    values = (2 * y / rows + x / columns) / 3 * 0.9 + 0.1 * rng.random((rows, columns))
    scaled: NDArray[np.uint16] = (values * (2**bits - 1)).astype(np.uint16)
    return scaled


def dicom_dataset(pixels: NDArray[Any], syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Dataset:
    """Return a digital X-ray image of grey pixels; tags win, and a tag that is None is left out."""
    bits = 8 * pixels.dtype.itemsize
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["cxrgaze"])
    order: Literal["<", ">"] = ">" if syntax == ExplicitVRBigEndian else "<"
    values: dict[str, Any] = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PatientName": CANARY,
        "PatientID": CANARY,
        "PatientBirthDate": "19500102",
        "AccessionNumber": CANARY,
        "StudyDescription": CANARY,
        "Modality": "DX",
        "Manufacturer": "Acme",
        "PresentationIntentType": "FOR PRESENTATION",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": (tags.get("BitsStored") or bits) - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.astype(pixels.dtype.newbyteorder(order)).tobytes(),
    }
    dataset = Dataset()
    dataset.file_meta = meta
    with disable_value_validation():
        for name, value in (values | tags).items():
            if value is not None:
                setattr(dataset, name, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OB" if bits == 8 or meta.TransferSyntaxUID.is_encapsulated else "OW"
    return dataset


def dicom_bytes(dataset: Dataset) -> bytes:
    """Write a data set as a file."""
    file = io.BytesIO()
    with disable_value_validation():
        dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def make_dicom(pixels: NDArray[Any], syntax: str = ExplicitVRLittleEndian, **tags: Any) -> bytes:
    """Return a file of grey pixels in any transfer syntax that can be written without loss."""
    if syntax not in (RLELossless, JPEG2000Lossless):
        return dicom_bytes(dicom_dataset(pixels, syntax, **tags))
    dataset = dicom_dataset(pixels, **tags)
    dataset.compress(syntax, generate_instance_uid=False)
    return dicom_bytes(dataset)


def make_lossless(pixels: NDArray[Any], syntax: str, bits: int, **tags: Any) -> bytes:
    """Return a file of unsigned grey pixels in any syntax of `LOSSLESS`."""
    if syntax in LOSSLESS[:5]:
        return make_dicom(pixels, syntax, BitsStored=bits, **tags)
    layout = {"BitsAllocated": 8 * pixels.dtype.itemsize, "BitsStored": bits}
    return make_encapsulated(compress(pixels, syntax, bits), syntax, *pixels.shape, **(layout | tags))


def make_encapsulated(frame: bytes, syntax: str, rows: int, columns: int, **tags: Any) -> bytes:
    """Return a file whose pixel data is one compressed frame, whatever that holds."""
    tags = {"Rows": rows, "Columns": columns, "PixelData": encapsulate([frame])} | tags
    return dicom_bytes(dicom_dataset(np.zeros((1, 1), np.uint8), syntax, **tags))


def picture(pixels: NDArray[Any], kind: str, **options: Any) -> bytes:
    """Return pixels as a JPEG or PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind, **options)
    return file.getvalue()


def compress(pixels: NDArray[Any], syntax: str, bits: int, level: int | None = None) -> bytes:
    """Return one compressed frame of grey pixels; signed ones go as their bits, as DICOM's JPEG syntaxes take them.

    Parameters
    ----------
    pixels
        uint8, uint16, int8 or int16.
    syntax
        A JPEG, JPEG-LS, JPEG 2000 or HTJ2K transfer syntax.
    bits
        Of a sample.
    level
        Quality (JPEG), largest error (JPEG-LS) or the like; None where nothing is lost.
    """
    wavelet = syntax in (JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)
    raw = pixels if wavelet or pixels.dtype.kind == "u" else pixels.view(f"u{pixels.dtype.itemsize}") & (2**bits - 1)
    raw = np.ascontiguousarray(raw.astype(pixels.dtype if wavelet else f"u{pixels.dtype.itemsize}"))
    if syntax in (HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL):
        return bytes(imagecodecs.htj2k_encode(raw, level=level, reversible=level is None))
    if wavelet:
        ratios = None if level is None else [float(level)]
        return bytes(openjpeg.encode_array(raw, bits, 2, compression_ratios=ratios))
    if syntax in (JPEGLSLossless, JPEGLSNearLossless):
        return bytes(imagecodecs.jpegls_encode(raw, level=level or 0))
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        predictor = 1 if syntax == JPEGLosslessSV1 else 6
        return bytes(imagecodecs.jpeg8_encode(raw, lossless=True, predictor=predictor, bitspersample=bits))
    return bytes(imagecodecs.jpeg8_encode(raw, level=level, bitspersample=bits))
