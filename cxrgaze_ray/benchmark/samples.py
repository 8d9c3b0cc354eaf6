"""One phantom chest, large as detectors make them, in every format that can be written here; or files of an archive."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.intake import Intake
from cxrgaze_ray.archive.manifest import fetch_listed, list_archive
from cxrgaze_ray.errors import RadiographError, UserError
from cxrgaze_ray.phantoms.anatomy import draw
from cxrgaze_ray.phantoms.files import PLAIN, Identity, dicom_bytes, dicom_dataset, stored_values
from cxrgaze_ray.radiograph.preprocess import DEFAULT_PROFILE
from cxrgaze_ray.radiograph.reading import Reading

ROWS, COLUMNS = 3056, 2544
"""Size of most images of MIMIC-CXR."""

SMALL = 1024
"""Rows and columns of NIH ChestX-ray14."""

_RECIPE = replace(PLAIN, photometric="MONOCHROME1")
_NOBODY = Identity("image", "10000001", "50000001", "O", 50)

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """A file to decode: what the table calls it, and its bytes."""

    name: str
    data: bytes


def phantom_samples(seed: int = 0) -> list[Sample]:
    """Draw one phantom and encode it in every format."""
    rng = np.random.default_rng(seed)
    large, small = draw(rng, 0, ROWS, COLUMNS).image, draw(rng, 0, SMALL, SMALL).image
    samples = [Sample(f"{name}, {ROWS}x{COLUMNS}", encode(large)) for name, encode in _ENCODERS.items()]
    return [*samples, Sample(f"JPEG, {SMALL}x{SMALL}", _jpeg(small))]


def jpeg_phantom(seed: int = 0) -> bytes:
    """Draw a phantom as a JPEG of 1024x1024, as NIH ChestX-ray14's are."""
    return _jpeg(draw(np.random.default_rng(seed), 0, SMALL, SMALL).image)


def archive_samples(uri: str, count: int) -> list[Sample]:
    """Fetch files spread over an archive; those that give no image are left out.

    Raises
    ------
    UserError
        If none gives one.
    """
    return [
        Sample(f"{row['format']} {row['image_id'][:8]}", fetch_listed(row))
        for row, _ in _read(uri, count, DEFAULT_PROFILE)
    ]


def archive_images(uri: str, count: int, profile: str) -> NDArray[np.uint16]:
    """Read files spread over an archive to model images (B, 640, 512); those that give none are left out.

    Raises
    ------
    UserError
        If none gives one.
    """
    return np.stack([image for _, image in _read(uri, count, profile)])


def _read(uri: str, count: int, profile: str) -> list[tuple[dict[str, Any], NDArray[np.uint16]]]:
    found = []
    with Intake(profile, Reading(frontal_only=False), Identities()) as intake:
        for row in _spread(list_archive(uri).table, count):
            with suppress(RadiographError):
                found.append((row, intake.take(row).pixels))
    if not found:
        raise UserError(f"No file of {uri} can be read.", f"See why: cxrgaze archive look {uri}.")
    return found


def _spread(table: pa.Table, count: int) -> list[dict[str, Any]]:
    places = np.unique(np.linspace(0, table.num_rows - 1, min(count, table.num_rows)).astype(int))
    rows: list[dict[str, Any]] = table.take(places).to_pylist()
    return rows


def _dicom(picture: Picture, syntax: str, bits: int = 12) -> bytes:
    recipe = replace(_RECIPE, bits=bits, transfer_syntax=syntax)
    return dicom_bytes(dicom_dataset(stored_values(picture, recipe), recipe, _NOBODY), syntax)


def _rle(picture: Picture) -> bytes:
    dataset = dcmread(io.BytesIO(_dicom(picture, ExplicitVRLittleEndian)))
    dataset.compress(RLELossless, generate_instance_uid=False)
    return dicom_bytes(dataset, RLELossless)


def _htj2k(picture: Picture) -> bytes:
    import imagecodecs  # slow to load, and of use here only

    dataset = dcmread(io.BytesIO(_dicom(picture, ExplicitVRLittleEndian)))
    dataset.PixelData = encapsulate([bytes(imagecodecs.htj2k_encode(dataset.pixel_array, reversible=True))])
    dataset["PixelData"].VR = "OB"
    return dicom_bytes(dataset, HTJ2KLossless)


def _dicom_jpeg(picture: Picture) -> bytes:
    dataset = dcmread(io.BytesIO(_dicom(picture, ExplicitVRLittleEndian, bits=8)))
    dataset.PixelData = encapsulate([_jpeg(1 - picture)])
    dataset["PixelData"].VR = "OB"
    return dicom_bytes(dataset, JPEGBaseline8Bit)


def _jpeg(picture: Picture) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()


def _png(picture: Picture, top: int) -> bytes:
    file = io.BytesIO()
    values = np.rint(picture * top).astype(np.uint8 if top == 255 else np.uint16)
    Image.fromarray(values).save(file, "PNG", compress_level=1)
    return file.getvalue()


_ENCODERS: dict[str, Callable[[Picture], bytes]] = {
    "DICOM native 12 bit": lambda picture: _dicom(picture, ExplicitVRLittleEndian),
    "DICOM deflated": lambda picture: _dicom(picture, DeflatedExplicitVRLittleEndian),
    "DICOM RLE": _rle,
    "DICOM JPEG baseline": _dicom_jpeg,
    "DICOM HTJ2K": _htj2k,
    "DICOM JPEG 2000": lambda picture: _dicom(picture, JPEG2000Lossless),
    "JPEG": _jpeg,
    "PNG 8 bit": lambda picture: _png(picture, 255),
    "PNG 16 bit": lambda picture: _png(picture, 65535),
}
