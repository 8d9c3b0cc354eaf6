"""Write one phantom as a hospital's device would: DICOM in varied encodings, or JPEG."""

from __future__ import annotations

import hashlib
import io
import threading
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

_ROOT = "2.25"
_ENCODER = threading.Lock()  # two threads in openjpeg's encoder at once crash the process
_VENDORS = (
    ("Lumen Imaging", "LX-200"),
    ("Lumen Imaging", "LX-410"),
    ("Nordray", "Atlas DR"),
    ("Ostia Medical", "CR-7"),
)
_OPPOSITE = {"MONOCHROME1": "MONOCHROME2", "MONOCHROME2": "MONOCHROME1"}


@dataclass(frozen=True)
class Recipe:
    """How one image is stored; `mislabelled`: its tag says the opposite of the photometric that its values have."""

    format: str
    photometric: str
    bits: int
    transfer_syntax: str
    view: str | None
    vendor: tuple[str, str]
    rescale: bool
    padding: bool
    mislabelled: bool = False


PLAIN = Recipe(
    format="dicom",
    photometric="MONOCHROME2",
    bits=12,
    transfer_syntax=str(ExplicitVRLittleEndian),
    view="PA",
    vendor=("Ostia Medical", "CR-7"),
    rescale=False,
    padding=False,
)
"""A chest radiograph without anything special about it."""


@dataclass(frozen=True)
class Identity:
    """Whose image it is."""

    image_id: str
    subject: str
    study: str
    sex: str
    age: int


def choose_recipe(rng: Generator, view: str) -> Recipe:
    """Choose an encoding: a quarter JPEG, the rest DICOM of varied photometrics, bits and transfer syntaxes."""
    rng.random()  # means nothing any more; without it every seed would give another archive
    vendor = _VENDORS[int(rng.integers(len(_VENDORS)))]
    syntax = rng.choice([ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless], p=[0.5, 0.25, 0.25])
    return Recipe(
        format="jpeg" if rng.random() < 0.25 else "dicom",
        photometric="MONOCHROME1" if rng.random() < 0.35 else "MONOCHROME2",
        bits=int(rng.choice([8, 10, 12, 14, 16], p=[0.1, 0.15, 0.45, 0.2, 0.1])),
        transfer_syntax=str(syntax),
        view=view if rng.random() < 0.9 else None,
        vendor=vendor,
        rescale=bool(rng.random() < 0.3),
        padding=bool(rng.random() < 0.2),
    )


def encode(image: NDArray[np.float32], recipe: Recipe, identity: Identity) -> bytes:
    """Return the file's bytes; the same arguments give the same bytes."""
    if recipe.format == "jpeg":
        return jpeg_bytes(image)
    return dicom_bytes(dicom_dataset(stored_values(image, recipe), recipe, identity), recipe.transfer_syntax)


def jpeg_bytes(image: NDArray[np.float32]) -> bytes:
    """Return an 8-bit grey JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def stored_values(image: NDArray[np.float32], recipe: Recipe) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return stored values of the recipe's bits: a few counts above 0, which is left to padding."""
    top = (1 << recipe.bits) - 1
    values = np.rint(1 + image * (top - 1)) if recipe.photometric == "MONOCHROME2" else np.rint(top - image * (top - 1))
    return values.astype(np.uint8) if recipe.bits == 8 else values.astype(np.uint16)


def dicom_dataset(pixels: NDArray[np.uint8] | NDArray[np.uint16], recipe: Recipe, identity: Identity) -> Dataset:
    """Return a digital X-ray data set around stored values."""
    dataset = Dataset()
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = uid_of(identity.image_id)
    dataset.StudyInstanceUID = uid_of(identity.study)
    dataset.SeriesInstanceUID = uid_of(identity.study + "1")
    dataset.Modality = "DX"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.BodyPartExamined = "CHEST"
    dataset.PatientName = f"PHANTOM^{identity.subject}"
    dataset.PatientID = identity.subject
    dataset.PatientSex = identity.sex
    dataset.PatientAge = f"{identity.age:03d}Y"
    dataset.Manufacturer, dataset.ManufacturerModelName = recipe.vendor
    if recipe.view:
        dataset.ViewPosition = recipe.view
    _set_pixels(dataset, pixels, recipe)
    return dataset


def _set_pixels(dataset: Dataset, pixels: NDArray[np.uint8] | NDArray[np.uint16], recipe: Recipe) -> None:
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = _OPPOSITE[recipe.photometric] if recipe.mislabelled else recipe.photometric
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = recipe.bits
    dataset.HighBit = recipe.bits - 1
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 1 << (recipe.bits - 1), 1 << recipe.bits
    if recipe.rescale:
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    if recipe.padding:
        dataset.add_new("PixelPaddingValue", "US", 0)
    if recipe.transfer_syntax == JPEG2000Lossless:
        with _ENCODER:
            codestream = encode_array(pixels, bits_stored=recipe.bits, photometric_interpretation=2)
        dataset.PixelData = encapsulate([codestream])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    else:
        data = pixels.tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
        dataset["PixelData"].VR = "OW"


def dicom_bytes(dataset: Dataset, transfer_syntax: str) -> bytes:
    """Return a data set as a DICOM file, with nothing in it that depends on the writer's version."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = UID(f"{_ROOT}.1")
    meta.ImplementationVersionName = "CXRGAZE"
    dataset.file_meta = meta
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def uid_of(text: str) -> str:
    """Return a UID made of a text's hash."""
    return f"{_ROOT}.{int(hashlib.sha256(text.encode()).hexdigest()[:30], 16)}"
