"""DICOM pixel data to values: checked, decoded, masked to the bits stored, through the Modality LUT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import UID

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.bounds import MAX_INFLATED, decoder_errors
from cxrgaze_ray.radiograph.codecs import Codec, find_codec
from cxrgaze_ray.radiograph.codestream import Codestream
from cxrgaze_ray.radiograph.frames import check_header, decode_frame, read_header, reduction
from cxrgaze_ray.radiograph.tags import integer, number, sequence, text
from cxrgaze_ray.schemas import Reason

_OPTIONS: Any = {"correct_unused_bits": False, "view_only": True, "allow_excess_frames": True}


class Values(NamedTuple):
    """What the pixel data holds.

    Attributes
    ----------
    stored
        (rows, columns): stored integers; fewer rows and columns where a lower resolution was decoded.
    pixels
        The same, or float32 after a Modality LUT.
    valid
        bool (rows, columns), False on padding; None if there is none.
    reduced_by
        1, 2, 4 or 8: what the sides were divided by, rounded up.
    """

    stored: NDArray[np.integer]
    pixels: NDArray[np.integer] | NDArray[np.float32]
    valid: NDArray[np.bool_] | None
    reduced_by: int


@dataclass(frozen=True)
class Layout:
    """How the tags say that a pixel lies in memory."""

    rows: int
    columns: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool


def decode_pixels(dataset: Dataset, syntax: str, *, reduced: bool = False) -> Values:
    """Decode the one frame of a data set whose size was checked.

    Parameters
    ----------
    dataset
        The parsed file.
    syntax
        Transfer syntax of the pixels.
    reduced
        Decode at the lowest resolution that still holds the picture inside the model image. Whole resolution is
        decoded where pixels cannot be averaged (padding value, Modality LUT sequence, bits above the stored ones) or
        the stream has no lower one.

    Raises
    ------
    RadiographError
        UNSUPPORTED_TRANSFER_SYNTAX, TOO_LARGE, TRUNCATED or CORRUPT.
    """
    codec = find_codec(syntax)
    if codec is None:
        raise RadiographError(Reason.UNSUPPORTED_TRANSFER_SYNTAX, "No decoder reads this transfer syntax.")
    layout, by = read_layout(dataset), 1
    if codec.family == "native":
        _check_native(dataset, layout)
        decoded = _decode_native(dataset, syntax, layout)
    else:
        frame = _frame(dataset)
        header = read_header(frame, codec)
        if header is not None:
            check_header(header, layout.rows, layout.columns, layout.allocated)
            by = _reduction(dataset, codec, header, layout) if reduced else 1
        decoded = decode_frame(frame, codec, layout.rows, layout.columns, layout.allocated, by)
    stored = mask(decoded, layout, shifted=codec.family in ("native", "rle"))
    return Values(stored, _modality(stored, dataset, syntax), _valid(stored, dataset, layout), by)


def _reduction(dataset: Dataset, codec: Codec, header: Codestream, layout: Layout) -> int:
    """Return by how much the decoder may divide the sides of this image."""
    averaged = integer(dataset, "PixelPaddingValue") is None and sequence(dataset, "ModalityLUTSequence") is None
    if not averaged or header.precision > layout.stored:
        return 1
    by = reduction(layout.rows, layout.columns)
    if codec.family == "dct" and header.precision == 8:
        return by
    return min(by, 2**header.levels) if codec.family == "wavelet" and header.origin else 1


def read_layout(dataset: Dataset) -> Layout:
    """Read and check the tags that say how a pixel is stored; bits default to those of BitsAllocated."""
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    allocated = integer(dataset, "BitsAllocated") or 0
    stored = integer(dataset, "BitsStored") or allocated
    high_bit = integer(dataset, "HighBit")
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise RadiographError(Reason.CORRUPT, "The pixels are not of 8 to 16 bits.")
    if high_bit is None or not stored <= high_bit + 1 <= allocated:
        high_bit = stored - 1
    return Layout(rows, columns, allocated, stored, high_bit, integer(dataset, "PixelRepresentation") == 1)


def _check_native(dataset: Dataset, layout: Layout) -> None:
    with decoder_errors():
        size = len(dataset.PixelData)
    if size < layout.rows * layout.columns * layout.allocated // 8:
        raise RadiographError(Reason.TRUNCATED, "The pixel data is shorter than rows x columns.")


def _frame(dataset: Dataset) -> bytes:
    """Return the fragments of the first frame as one; they are never longer than the largest image without compression.

    Raises
    ------
    RadiographError
        TOO_LARGE or CORRUPT.
    """
    with decoder_errors():
        data = dataset.PixelData
        if len(data) > MAX_INFLATED:
            raise RadiographError(Reason.TOO_LARGE, "The compressed image is longer than one without compression.")
        return get_frame(data, 0, number_of_frames=1)


def _decode_native(dataset: Dataset, syntax: str, layout: Layout) -> NDArray[np.integer]:
    _fill_in(dataset, layout)
    with decoder_errors():
        pixels, _ = get_decoder(UID(syntax)).as_array(dataset, index=0, raw=True, **_OPTIONS)
    return np.asarray(pixels, pixels.dtype.newbyteorder("="))


def _fill_in(dataset: Dataset, layout: Layout) -> None:
    """Set the tags that pydicom needs to what was read of them, so that missing and malformed ones do no harm."""
    values = {
        "SamplesPerPixel": 1,
        "NumberOfFrames": 1,
        "Rows": layout.rows,
        "Columns": layout.columns,
        "BitsAllocated": layout.allocated,
        "BitsStored": layout.stored,
        "HighBit": layout.high_bit,
        "PixelRepresentation": int(layout.signed),
        "PhotometricInterpretation": text(dataset, "PhotometricInterpretation") or "MONOCHROME2",
    }
    for keyword, value in values.items():
        dataset.pop(keyword, None)  # setting an attribute parses the old value, which may be malformed
        setattr(dataset, keyword, value)


def mask(pixels: NDArray[np.integer], layout: Layout, *, shifted: bool) -> NDArray[np.integer]:
    """Keep the bits stored: overlays in high bits and a decoder's stray bits go, the sign is extended.

    Parameters
    ----------
    pixels
        8 or 16 bits a pixel, as decoded.
    layout
        BitsStored and HighBit.
    shifted
        Whether HighBit counts: compressed pixels always start at bit 0.

    Returns
    -------
    NDArray
        uint8, uint16, int8 or int16 with values that fit BitsStored.
    """
    width = 8 * pixels.dtype.itemsize
    if width > 16:
        pixels, width = pixels.astype(np.uint16), 16
    above = width - (layout.high_bit + 1 if shifted else layout.stored)
    unsigned = pixels.view(f"u{width // 8}")
    if layout.stored >= width:
        return pixels.view(f"i{width // 8}") if layout.signed else unsigned
    lifted = np.left_shift(unsigned, above) if above else unsigned
    lifted = lifted.view(f"i{width // 8}") if layout.signed else lifted
    return np.asarray(np.right_shift(lifted, width - layout.stored))


def _valid(stored: NDArray[np.integer], dataset: Dataset, layout: Layout) -> NDArray[np.bool_] | None:
    """Return False where a pixel is padding: PixelPaddingValue, or from it to PixelPaddingRangeLimit."""
    value = integer(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = integer(dataset, "PixelPaddingRangeLimit")
    ends = sorted(_as_stored(end, layout) for end in (value, value if limit is None else limit))
    padding = (stored >= ends[0]) & (stored <= ends[1])
    return ~padding if padding.any() else None


def _as_stored(value: int, layout: Layout) -> int:
    """Read a padding value in the pixels' own signedness: writers disagree on its type."""
    value &= 2**layout.stored - 1
    return value - 2**layout.stored if layout.signed and value >> (layout.stored - 1) else value


def _modality(stored: NDArray[np.integer], dataset: Dataset, syntax: str) -> NDArray[np.integer] | NDArray[np.float32]:
    """Apply the Modality LUT: its sequence, else rescale slope and intercept (PS3.3 C.11.1)."""
    if sequence(dataset, "ModalityLUTSequence") is not None:
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        with decoder_errors():
            return np.asarray(apply_modality_lut(stored, dataset), np.float32)
    slope, intercept = number(dataset, "RescaleSlope") or 1.0, number(dataset, "RescaleIntercept") or 0.0
    if (slope, intercept) == (1.0, 0.0):
        return stored
    with np.errstate(over="ignore", invalid="ignore"):
        values = stored * np.float32(slope) + np.float32(intercept)
    if not np.isfinite(values[[0, -1]]).all() or not np.isfinite([values.min(), values.max()]).all():
        raise RadiographError(Reason.CORRUPT, "The rescale slope or intercept is out of range.")
    return values
