"""Small DICOM files, made from arrays."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
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
    JPEG2000Lossless,
)
"""Transfer syntaxes that `make_dicom` writes, every pixel kept."""


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


def make_encapsulated(frame: bytes, syntax: str, rows: int, columns: int, **tags: Any) -> bytes:
    """Return a file whose pixel data is one compressed frame, whatever that holds."""
    tags = {"Rows": rows, "Columns": columns, "PixelData": encapsulate([frame])} | tags
    return dicom_bytes(dicom_dataset(np.zeros((1, 1), np.uint8), syntax, **tags))


def picture(pixels: NDArray[Any], kind: str, **options: Any) -> bytes:
    """Return pixels as a JPEG or PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind, **options)
    return file.getvalue()
