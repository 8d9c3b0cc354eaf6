"""Broken and unwanted files, each with the reason that its row must get."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import MPEG2MPML, JPEG2000Lossless

from cxrgaze_ray.phantoms.files import PLAIN, Identity, Recipe, dicom_bytes, dicom_dataset, jpeg_bytes, stored_values
from cxrgaze_ray.schemas import Reason

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Fault:
    """A kind of broken file: extension, the reason code it deserves, and how its bytes come to be.

    `make` returns None for a file that the record list names and that is not there.
    """

    extension: str
    reason: Reason
    make: Callable[[Picture, Identity, Generator], bytes | None]


_WAVELET = replace(PLAIN, transfer_syntax=str(JPEG2000Lossless))
_LATERAL = replace(PLAIN, view="LATERAL")


def _dataset(image: Picture, identity: Identity, recipe: Recipe = PLAIN) -> Dataset:
    return dicom_dataset(stored_values(image, recipe), recipe, identity)


def _dicom(image: Picture, identity: Identity, recipe: Recipe = PLAIN) -> bytes:
    return dicom_bytes(_dataset(image, identity, recipe), recipe.transfer_syntax)


def _cut(data: bytes) -> bytes:
    return data[: len(data) * 3 // 5]


def _colour(image: Picture, _identity: Identity, _rng: Generator) -> bytes:
    grey = np.rint(image * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.stack([grey, 255 - grey, grey // 2], axis=2)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _two_frames(image: Picture, identity: Identity, _rng: Generator) -> bytes:
    dataset = _dataset(image, identity)
    dataset.NumberOfFrames = 2
    dataset.PixelData *= 2
    return dicom_bytes(dataset, PLAIN.transfer_syntax)


def _no_pixels(image: Picture, identity: Identity, _rng: Generator) -> bytes:
    dataset = _dataset(image, identity)
    del dataset.PixelData
    return dicom_bytes(dataset, PLAIN.transfer_syntax)


def _video(image: Picture, identity: Identity, _rng: Generator) -> bytes:
    return dicom_bytes(_dataset(image, identity, _WAVELET), str(MPEG2MPML))


def _hand(image: Picture, identity: Identity, _rng: Generator) -> bytes:
    dataset = _dataset(image, identity)
    dataset.BodyPartExamined = "HAND"
    return dicom_bytes(dataset, PLAIN.transfer_syntax)


_TEXT = b"This is not a radiograph, whatever its name says.\n" * 40

FAULTS = {
    "truncated_dicom": Fault("dcm", Reason.TRUNCATED, lambda image, who, _: _cut(_dicom(image, who))),
    "truncated_jpeg2000": Fault("dcm", Reason.TRUNCATED, lambda image, who, _: _cut(_dicom(image, who, _WAVELET))),
    "truncated_jpeg": Fault("jpg", Reason.TRUNCATED, lambda image, _, __: _cut(jpeg_bytes(image))),
    "text_named_dicom": Fault("dcm", Reason.NOT_AN_IMAGE, lambda *_: _TEXT),
    "empty_file": Fault("dcm", Reason.EMPTY_FILE, lambda *_: b""),
    "noise_named_jpeg": Fault("jpg", Reason.CORRUPT, lambda _, __, rng: b"\xff\xd8\xff\xe0" + rng.bytes(4096)),
    "colour_jpeg": Fault("jpg", Reason.NOT_GREYSCALE, _colour),
    "lateral_view": Fault("dcm", Reason.LATERAL_VIEW, lambda image, who, _: _dicom(image, who, _LATERAL)),
    "two_frames": Fault("dcm", Reason.MULTI_FRAME, _two_frames),
    "constant_image": Fault("dcm", Reason.CONSTANT_IMAGE, lambda image, who, _: _dicom(np.full_like(image, 0.5), who)),
    "no_pixel_data": Fault("dcm", Reason.NO_PIXEL_DATA, _no_pixels),
    "video_transfer_syntax": Fault("dcm", Reason.UNSUPPORTED_TRANSFER_SYNTAX, _video),
    "other_body_part": Fault("dcm", Reason.OTHER_BODY_PART, _hand),
    "missing_file": Fault("dcm", Reason.MISSING, lambda *_: None),
}
"""Every kind that ``--faults`` plants, by name."""
