"""DICOM pixel data to values: checked, decoded, masked to the bits stored, through the Modality LUT."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import (
    HTJ2K,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
)

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.bounds import check_size, decoder_errors
from cxrgaze_ray.radiograph.tags import integer, number, sequence, text
from cxrgaze_ray.schemas import Reason

_WAVELET = frozenset({*JPEG2000TransferSyntaxes, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL})
_JPEG = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit})
_SIZ = b"\xff\x4f\xff\x51"
_END_OF_IMAGE = b"\xff\xd9"
_OPTIONS: Any = {"correct_unused_bits": False, "view_only": True, "allow_excess_frames": True}


@dataclass(frozen=True)
class Layout:
    """How the tags say that a pixel lies in memory."""

    rows: int
    columns: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool


def decode_pixels(
    dataset: Dataset, syntax: str
) -> tuple[NDArray[np.integer], NDArray[np.integer] | NDArray[np.float32], NDArray[np.bool_] | None]:
    """Decode the one frame of a data set whose size was checked.

    Returns
    -------
    stored
        (rows, columns): stored integers.
    pixels
        The same, or float32 after a Modality LUT.
    valid
        bool (rows, columns), False on padding; None if there is none.
    """
    layout = read_layout(dataset)
    encapsulated = UID(syntax).is_encapsulated if UID(syntax).is_transfer_syntax else True
    if encapsulated:
        _check_supported(syntax, layout)
        _check_codestream(dataset, syntax, layout)
    else:
        _check_native(dataset, layout)
    stored = mask(_decode(dataset, syntax, layout), layout, shifted=not encapsulated)
    valid = _valid(stored, dataset, layout)
    return stored, _modality(stored, dataset, syntax), valid


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


def _check_supported(syntax: str, layout: Layout) -> None:
    try:
        supported = get_decoder(UID(syntax)).is_available
    except NotImplementedError:
        supported = False
    if not supported or (syntax == JPEGExtended12Bit and layout.allocated > 8):
        raise RadiographError(Reason.UNSUPPORTED_TRANSFER_SYNTAX, "No decoder reads this transfer syntax.")


def _check_codestream(dataset: Dataset, syntax: str, layout: Layout) -> None:
    """Hold the size in the compressed stream against the tags, before a decoder allocates for it."""
    if syntax == RLELossless:
        return
    frame = _frame(dataset)
    if syntax in _WAVELET:
        rows, columns, channels = _wavelet_size(frame)
    elif syntax in _JPEG:
        with decoder_errors(), Image.open(io.BytesIO(frame), formats=("JPEG",)) as image:
            rows, columns, channels = image.height, image.width, len(image.getbands())
    else:
        return
    check_size(rows, columns)
    if (rows, columns, channels) != (layout.rows, layout.columns, 1):
        raise RadiographError(Reason.CORRUPT, "The compressed image is not of the size or colour that the tags say.")


def _frame(dataset: Dataset) -> bytes:
    with decoder_errors():
        return get_frame(dataset.PixelData, 0, number_of_frames=1)


def _wavelet_size(frame: bytes) -> tuple[int, int, int]:
    """Return rows, columns and channels of a JPEG 2000 codestream: its SIZ segment, ISO/IEC 15444-1 A.5.1."""
    start = frame.find(_SIZ)
    siz = frame[start + 8 : start + 42]
    if start < 0 or len(siz) < 34:
        raise RadiographError(Reason.CORRUPT, "The pixel data is no JPEG 2000 codestream.")
    x_end, y_end, x_start, y_start = np.frombuffer(siz[:16], ">u4").tolist()
    return y_end - y_start, x_end - x_start, int.from_bytes(siz[32:34], "big")


def _decode(dataset: Dataset, syntax: str, layout: Layout) -> NDArray[np.integer]:
    _fill_in(dataset, layout)
    decoder = get_decoder(UID(syntax))
    plugin = "pylibjpeg" if syntax in _WAVELET else ""
    try:
        with decoder_errors():
            pixels, _ = decoder.as_array(
                dataset,
                index=0,
                raw=True,
                decoding_plugin=plugin,
                **_OPTIONS,
            )
    except RadiographError:
        if syntax in _WAVELET | _JPEG and _END_OF_IMAGE not in _frame(dataset)[-8:]:
            raise RadiographError(Reason.TRUNCATED, "The compressed image ends early.") from None
        raise
    if pixels.shape != (layout.rows, layout.columns):
        raise RadiographError(Reason.CORRUPT, "The decoded image is not of the size that the tags say.")
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
