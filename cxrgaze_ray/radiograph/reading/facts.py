"""What is known of a radiograph beside its pixels; every value is bounded, and free of control characters."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.radiograph.reading.voi import Voi
from cxrgaze_ray.schemas.orientation import UPRIGHT, upright_size

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufffd]+")
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_OLDEST_BAND = 90

DECODES = {1: "full", 2: "1/2", 4: "1/4", 8: "1/8"}
"""Names of the resolutions, by what the sides are divided by."""


@dataclass(frozen=True)
class Facts:
    """Facts of the source; None where the file does not say.

    Attributes
    ----------
    view_position
        A DICOM view position out of a closed list, such as ``PA``.
    view_source
        ``tag``, ``metadata`` (what the archive's tables say), ``procedure`` (text, of the tables or the file), or
        ``unknown``: the first that gives a view of the list.
    photometric
        PhotometricInterpretation, such as ``MONOCHROME1``; None for JPEG and PNG.
    photometric_check
        Whether the picture agrees: ``agrees``, ``disagrees`` or ``unsure``.
    presentation_lut_shape
        ``IDENTITY`` or ``INVERSE``, as tagged: recorded, never obeyed, because it is sometimes wrong.
    transfer_syntax
        UID; None for JPEG and PNG.
    decode
        Resolution that was decoded: ``full``, ``1/2``, ``1/4`` or ``1/8``.
    bits_stored, rows, columns
        Bits and size of the stored pixels, before they are turned; bits are those that were found to be in use.
    manufacturer, device_model
        At most 64 characters.
    sex
        ``M``, ``F`` or ``O``.
    age_band
        Ten years, such as ``60-69``; ``90+`` is pooled.
    oddities
        What was odd about a file that could be read all the same: see `schemas.join_oddities`.
    """

    view_position: str | None = None
    view_source: str = "unknown"
    photometric: str | None = None
    photometric_check: str | None = None
    presentation_lut_shape: str | None = None
    transfer_syntax: str | None = None
    decode: str = "full"
    bits_stored: int | None = None
    rows: int | None = None
    columns: int | None = None
    manufacturer: str | None = None
    device_model: str | None = None
    sex: str | None = None
    age_band: str | None = None
    oddities: str | None = None


@dataclass(frozen=True)
class Reading:
    """How a file is to be read.

    Attributes
    ----------
    frontal_only
        Refuse a view that is known and not frontal, before pixels are decoded.
    reduced
        Decode JPEG and JPEG 2000 at the lowest resolution that still holds every pixel of the model image.
    known_view, known_view_source
        What the archive's tables say of the view: a view, and ``metadata`` or ``procedure``.
    """

    frontal_only: bool = False
    reduced: bool = False
    known_view: str | None = None
    known_view_source: str = "unknown"


@dataclass(frozen=True)
class Radiograph:
    """Pixels of one image as its values mean, before any windowing or scaling.

    Attributes
    ----------
    stored
        (rows, columns): the stored integers, masked to the bits stored, upright.
    pixels
        (rows, columns): the same; float32 after a Modality LUT.
    valid
        bool (rows, columns), False where the file says padding; None if every pixel is of the image.
    inverted
        True for MONOCHROME1: low values are bright.
    facts
        What is known beside the pixels. Its rows and columns are the source's, also where fewer were decoded.
    patient, study
        PatientID and StudyInstanceUID as the file gives them, for keyed hashes; None for JPEG and PNG.
    voi
        How the file wants its values shown; its `apply` maps `pixels` to float32 in [0,1], before any inversion. None
        if the file does not say.
    orientation
        Exif's number of how the picture was turned to stand upright: see `orientation`.
    pixel_aspect
        Height of a pixel over its width.
    """

    stored: NDArray[np.integer]
    pixels: NDArray[np.integer] | NDArray[np.float32]
    valid: NDArray[np.bool_] | None
    inverted: bool
    facts: Facts
    patient: str | None = None
    study: str | None = None
    voi: Voi | None = None
    orientation: int = UPRIGHT
    pixel_aspect: float = 1.0

    @property
    def source_size(self) -> tuple[int, int]:
        """Rows and columns of the upright source, also where fewer were decoded."""
        rows, columns = self.stored.shape
        if not self.facts.rows or not self.facts.columns:
            return rows, columns
        return upright_size(self.orientation, self.facts.rows, self.facts.columns)


def clean(text: str, length: int = 64) -> str | None:
    """Return text fit for tables: one line, bounded, without control characters; None if nothing is left.

    Text with binary control characters is dropped whole: it is a broken element that has swallowed the next ones.
    """
    if _BINARY.search(text):
        return None
    return " ".join(_CONTROL.sub(" ", text[: 4 * length]).split())[:length].strip() or None


def age_band(text: str | None) -> str | None:
    """Return the ten-year band of a DICOM age string such as ``065Y``; None if it is malformed."""
    match = _AGE.fullmatch((text or "").strip())
    if match is None:
        return None
    years = int(int(match[1]) * _YEARS[match[2]])
    if years >= _OLDEST_BAND:
        return f"{_OLDEST_BAND}+"
    return f"{years // 10 * 10}-{years // 10 * 10 + 9}"
