"""DICOM pixel data to values: checked, decoded, settled between tags and stream, grey, through the Modality LUT."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut, convert_color_space
from pydicom.uid import UID

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.pixel_data.bits import Layout, read_layout, settle
from cxrgaze_ray.radiograph.pixel_data.bounds import MAX_INFLATED, decoder_errors
from cxrgaze_ray.radiograph.pixel_data.codecs import Codec, find_codec
from cxrgaze_ray.radiograph.pixel_data.codestream import Codestream
from cxrgaze_ray.radiograph.pixel_data.colour import grey_of
from cxrgaze_ray.radiograph.pixel_data.frames import check_header, decode_frame, read_frame_header, reduction
from cxrgaze_ray.radiograph.pixel_data.palette import apply_palette
from cxrgaze_ray.radiograph.pixel_data.tags import integer, number, sequence, text
from cxrgaze_ray.schemas import Oddity, Reason

PIXEL_DATA = 0x7FE00010

PALETTE = "PALETTE COLOR"
CHANNELS = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
"""Photometric interpretations of three channels that are read (PS3.3 C.7.6.3.1.2), if they hold grey."""

_LUMA_AND_CHROMA = ("YBR_FULL", "YBR_FULL_422")
_NATIVE_CHANNELS = ("RGB", *_LUMA_AND_CHROMA)
_UNDEFINED = 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"
_OPTIONS: Any = {"correct_unused_bits": False, "view_only": True, "allow_excess_frames": True}


class Values(NamedTuple):
    """What the pixel data holds.

    Attributes
    ----------
    stored
        (rows, columns): stored integers; of colour channels and palettes, their grey. Fewer rows and columns where a
        lower resolution was decoded.
    pixels
        The same, or float32 after a Modality LUT.
    valid
        bool (rows, columns), False on padding; None if there is none.
    reduced_by
        1, 2, 4 or 8: what the sides were divided by, rounded up.
    bits
        Bits of a stored value.
    grey_scale
        False for colour channels and palettes, which Modality and VOI are not for.
    oddities
        What was odd about it.
    """

    stored: NDArray[np.integer]
    pixels: NDArray[np.integer] | NDArray[np.float32]
    valid: NDArray[np.bool_] | None
    reduced_by: int
    bits: int
    grey_scale: bool
    oddities: set[Oddity]


def decode_pixels(dataset: Dataset, syntax: str, *, reduced: bool = False, aspect: float = 1.0) -> Values:
    """Decode the one frame of a data set whose size was checked.

    Parameters
    ----------
    dataset
        The parsed file.
    syntax
        Transfer syntax of the pixels.
    reduced
        Decode at the lowest resolution that still holds the picture inside the model image. Whole resolution is
        decoded where pixels cannot be averaged (padding value, palette, Modality LUT sequence, tags that contradict
        the stream) or the stream has no lower one.
    aspect
        Height of a pixel over its width.

    Raises
    ------
    RadiographError
        UNSUPPORTED_TRANSFER_SYNTAX, WRONG_TRANSFER_SYNTAX, NOT_GREYSCALE, TOO_LARGE, TRUNCATED or CORRUPT.
    """
    codec = find_codec(syntax)
    if codec is None:
        raise RadiographError(Reason.UNSUPPORTED_TRANSFER_SYNTAX, "No decoder reads this transfer syntax.")
    layout, by = read_layout(dataset, _samples(dataset)), 1
    header = None
    if codec.family == "native":
        decoded = _decode_native(dataset, syntax, layout)
    else:
        frame = _frame(dataset)
        header = read_frame_header(frame, codec)
        if header is not None:
            check_header(header, layout.rows, layout.columns)
            by = _reduction(dataset, codec, header, layout, aspect) if reduced else 1
        decoded = decode_frame(frame, codec, layout, by, raw_rgb=_photometric(dataset) == "RGB")
    decoded, padding = _without_padding(decoded, dataset, layout)
    settled, layout, oddities = settle(decoded, layout, header, shifted=codec.family in ("native", "rle"))
    if header is not None and header.components != layout.samples:
        oddities = oddities | {Oddity.COMPONENTS}
    values = _values(settled, dataset, codec, layout, by, oddities)
    if padding is None:
        return values
    valid = ~padding if values.valid is None else values.valid & ~padding
    return values._replace(valid=valid, oddities=values.oddities - {Oddity.PADDING_OUT_OF_RANGE})


def _without_padding(
    decoded: NDArray[np.integer], dataset: Dataset, layout: Layout
) -> tuple[NDArray[np.integer], NDArray[np.bool_] | None]:
    """Take out the padding that was stored with bits above those of a pixel; None if there is none.

    Masked to BitsStored it would be some grey; and it would be taken for a sign that BitsStored is wrong.
    """
    value = integer(dataset, "PixelPaddingValue")
    if value is None or decoded.ndim == 3 or _as_stored(value, layout) is not None:
        return decoded, None
    bits = decoded.view(f"u{decoded.itemsize}")
    padding = bits == (value & (2 ** (8 * decoded.itemsize) - 1))
    if not padding.any() or padding.all():
        return decoded, None
    return np.where(padding, bits[~padding].min(), bits).view(decoded.dtype), padding


def _values(
    settled: NDArray[np.integer], dataset: Dataset, codec: Codec, layout: Layout, by: int, oddities: set[Oddity]
) -> Values:
    """Make grey of what was decoded, and values of that."""
    if settled.ndim == 3:
        grey, tint = grey_of(_rgb(settled, dataset, codec))
        return Values(grey, grey, None, by, layout.stored, False, oddities | tint)
    valid, odd = _valid(settled, dataset, layout)
    oddities = oddities | odd
    if _photometric(dataset) == PALETTE:
        little_endian = dataset.original_encoding[1] is not False
        grey, tint = grey_of(apply_palette(settled, dataset, little_endian=little_endian))
        return Values(grey, grey, valid, by, 8 * grey.itemsize, False, oddities | tint)
    pixels = _modality(settled, dataset, codec.uid)
    return Values(settled, pixels, valid, by, layout.stored, True, oddities)


def _rgb(channels: NDArray[np.integer], dataset: Dataset, codec: Codec) -> NDArray[np.integer]:
    """Return red, green and blue; Pillow's JPEG decoder has undone luma and chroma itself."""
    if _photometric(dataset) not in _LUMA_AND_CHROMA or codec.family == "dct":
        return channels
    if channels.itemsize > 1:
        raise RadiographError(Reason.NOT_GREYSCALE, "Luma and chroma of more than 8 bits are not read.")
    with decoder_errors():
        return np.asarray(convert_color_space(channels, "YBR_FULL", "RGB"))


def _photometric(dataset: Dataset) -> str | None:
    return (text(dataset, "PhotometricInterpretation") or "").upper() or None


def _samples(dataset: Dataset) -> int:
    """Return the channels of a pixel: SamplesPerPixel, else what the photometric interpretation has."""
    samples = integer(dataset, "SamplesPerPixel") or (3 if _photometric(dataset) in CHANNELS else 1)
    if samples not in (1, 3):
        raise RadiographError(Reason.NOT_GREYSCALE, "The image has neither one channel nor three.")
    return samples


def _reduction(dataset: Dataset, codec: Codec, header: Codestream, layout: Layout, aspect: float) -> int:
    """Return by how much the decoder may divide the sides of this image."""
    averaged = (
        integer(dataset, "PixelPaddingValue") is None
        and sequence(dataset, "ModalityLUTSequence") is None
        and _photometric(dataset) != PALETTE
    )
    agreed = header.precision <= layout.stored and header.signed in (None, layout.signed)
    if not averaged or not agreed:
        return 1
    by = reduction(layout.rows, layout.columns, aspect)
    if codec.family == "dct" and header.precision == 8:
        return by
    usable = codec.family == "wavelet" and header.origin and header.components == 1
    return min(by, 2**header.levels) if usable else 1


def _is_encapsulated(dataset: Dataset) -> bool:
    with decoder_errors():
        element = dataset.get_item(PIXEL_DATA)
    length = getattr(element, "length", None)
    return length == _UNDEFINED or bool(getattr(element, "is_undefined_length", False))


def _pixel_bytes(dataset: Dataset) -> bytes:
    with decoder_errors():
        data = dataset.PixelData or b""
    if not isinstance(data, bytes):
        raise RadiographError(Reason.CORRUPT, "The pixel data is no bytes.")
    return data


def _frame(dataset: Dataset) -> bytes:
    """Return the fragments of the first frame as one; they are never longer than the largest image without compression.

    Raises
    ------
    RadiographError
        WRONG_TRANSFER_SYNTAX, TOO_LARGE or CORRUPT.
    """
    encapsulated, data = _is_encapsulated(dataset), _pixel_bytes(dataset)
    with decoder_errors():
        if not encapsulated and not data.startswith(_ITEM):
            raise RadiographError(
                Reason.WRONG_TRANSFER_SYNTAX, "The pixels are not in the frames of a compressed image."
            )
        if len(data) > MAX_INFLATED:
            raise RadiographError(Reason.TOO_LARGE, "The compressed image is longer than one without compression.")
        return get_frame(data, 0, number_of_frames=1)


def _decode_native(dataset: Dataset, syntax: str, layout: Layout) -> NDArray[np.integer]:
    _check_native(dataset, layout)
    _fill_in(dataset, layout)
    with decoder_errors():
        pixels, _ = get_decoder(UID(syntax)).as_array(dataset, index=0, raw=True, **_OPTIONS)
    return np.asarray(pixels, pixels.dtype.newbyteorder("="))


def _check_native(dataset: Dataset, layout: Layout) -> None:
    photometric = _photometric(dataset)
    encapsulated, data = _is_encapsulated(dataset), _pixel_bytes(dataset)
    halved = layout.samples == 3 and photometric == "YBR_FULL_422"
    needed = layout.rows * layout.columns * (2 if halved else layout.samples) * layout.allocated // 8
    if encapsulated or (len(data) < needed and data.startswith(_ITEM)):
        raise RadiographError(
            Reason.WRONG_TRANSFER_SYNTAX, "The pixels are compressed; the transfer syntax says that they are not."
        )
    if (layout.samples == 3) != (photometric in CHANNELS) and photometric is not None:
        raise RadiographError(Reason.CORRUPT, "The tags contradict each other on the channels of a pixel.")
    if layout.samples == 3 and photometric not in (None, *_NATIVE_CHANNELS):
        raise RadiographError(Reason.CORRUPT, "The pixels are of a colour space that only compressed images have.")
    if len(data) < needed:
        raise RadiographError(Reason.TRUNCATED, "The pixel data is shorter than rows x columns.")
    if len(data) >= 2 * needed:  # another frame, or wider or more samples than the tags say
        raise RadiographError(Reason.CORRUPT, "The pixel data is at least twice as long as the tags say.")


def _fill_in(dataset: Dataset, layout: Layout) -> None:
    """Set the tags that pydicom needs to what was read of them, so that missing and malformed ones do no harm."""
    planar = {"PlanarConfiguration": int(integer(dataset, "PlanarConfiguration") == 1)} if layout.samples == 3 else {}
    values: dict[str, Any] = {
        "SamplesPerPixel": layout.samples,
        "NumberOfFrames": 1,
        "Rows": layout.rows,
        "Columns": layout.columns,
        "BitsAllocated": layout.allocated,
        "BitsStored": layout.stored,
        "HighBit": layout.high_bit,
        "PixelRepresentation": int(layout.signed),
        "PhotometricInterpretation": _photometric(dataset) or ("RGB" if layout.samples == 3 else "MONOCHROME2"),
        **planar,
    }
    for keyword, value in values.items():
        dataset.pop(keyword, None)  # setting an attribute parses the old value, which may be malformed
        setattr(dataset, keyword, value)


def _valid(
    stored: NDArray[np.integer], dataset: Dataset, layout: Layout
) -> tuple[NDArray[np.bool_] | None, set[Oddity]]:
    """Return False where a pixel is padding: PixelPaddingValue, or from it to PixelPaddingRangeLimit.

    An end that no stored pixel can have matches nothing (PS3.3 C.7.5.1.1.2): masked into range it would be the white
    of a picture whose writer said 65535 of 12 bits.
    """
    ends = [integer(dataset, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None, set()
    given = [end for end in ends if end is not None]
    usable = [value for end in given if (value := _as_stored(end, layout)) is not None]
    odd = {Oddity.PADDING_OUT_OF_RANGE} if len(usable) < len(given) else set()
    if not usable:
        return None, odd
    padding = (stored >= min(usable)) & (stored <= max(usable))
    return (~padding if padding.any() else None), odd


def _as_stored(value: int, layout: Layout) -> int | None:
    """Read a padding value in the pixels' signedness: writers disagree on its own. None if it is out of range."""
    if layout.signed and value >= 2**15:
        value -= 2**16
    elif not layout.signed and value < 0:
        value += 2**16
    low = -(2 ** (layout.stored - 1)) if layout.signed else 0
    return value if low <= value < low + 2**layout.stored else None


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
