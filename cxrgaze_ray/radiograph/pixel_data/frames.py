"""One compressed frame to an array, whole or at a lower resolution."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.pixel_data.bits import Layout
from cxrgaze_ray.radiograph.pixel_data.bounds import check_size, decoder_errors
from cxrgaze_ray.radiograph.pixel_data.codecs import Codec
from cxrgaze_ray.radiograph.pixel_data.codestream import (
    Codestream,
    read_header,
    read_jpeg_header,
    read_wavelet_header,
    wavelet_codestream,
    whole_jpeg,
)
from cxrgaze_ray.radiograph.pixel_data.scan import check_scan
from cxrgaze_ray.schemas import HEIGHT, WIDTH, Reason

_END_OF_IMAGE = b"\xff\xd9"
_MOST_SEGMENTS = 15
_MOST_BITS = 16
_REDUCTIONS = (8, 4, 2)


def reduction(rows: int, columns: int, aspect: float = 1.0) -> int:
    """Return 8, 4 or 2: the most that an image can be shrunk and still hold its picture in the model image; else 1.

    `aspect` is the height of a pixel over its width.
    """
    scale = min(HEIGHT / (rows * aspect), WIDTH / columns)
    height, width = round(rows * aspect * scale), round(columns * scale)
    return next((by for by in _REDUCTIONS if -(-rows // by) >= height and -(-columns // by) >= width), 1)


def read_frame_header(frame: bytes, codec: Codec) -> Codestream | None:
    """Read what the frame says of itself; None for RLE, which says nothing.

    Raises
    ------
    RadiographError
        WRONG_TRANSFER_SYNTAX if it is of another format than the file's transfer syntax; CORRUPT if of none.
    """
    if codec.family == "rle":
        return None
    header = read_header(frame)
    if header.family != codec.family:
        raise RadiographError(
            Reason.WRONG_TRANSFER_SYNTAX, "The compressed image is of another format than the file says."
        )
    return header


def check_header(header: Codestream, rows: int, columns: int) -> None:
    """Hold a frame's own size against the tags', and its channels and bits against what is read.

    Raises
    ------
    RadiographError
        TOO_LARGE, NOT_GREYSCALE or CORRUPT.
    """
    check_size(header.rows, header.columns)
    if (header.rows, header.columns) != (rows, columns) or not 1 <= header.precision <= _MOST_BITS:
        raise RadiographError(Reason.CORRUPT, "The compressed image is not of the size that the tags say.")
    if header.components not in (1, 3):
        raise RadiographError(Reason.NOT_GREYSCALE, "The compressed image has neither one channel nor three.")


def decode_frame(frame: bytes, codec: Codec, layout: Layout, by: int = 1, *, raw_rgb: bool = False) -> NDArray[Any]:
    """Decode a frame whose header was checked.

    Parameters
    ----------
    frame
        The compressed bytes.
    codec
        Codec of its transfer syntax.
    layout
        Size in pixels, bits and channels, as the tags say; only RLE needs more of it than the size.
    by
        1, 2, 4 or 8: what the sides are divided by, rounded up; of ``dct`` of 8 bits and ``wavelet`` only.
    raw_rgb
        Whether the tags say that three channels are red, green and blue: a JPEG that does not tell is taken for luma
        and chroma otherwise.

    Returns
    -------
    NDArray
        8 or 16 bit integers, of the frame's own signedness: (rows, columns), or (rows, columns, 3).

    Raises
    ------
    RadiographError
        TRUNCATED or CORRUPT.
    """
    try:
        with decoder_errors():
            pixels = _decode(frame, codec, layout, by, raw_rgb)
    except RadiographError as error:
        if error.reason == Reason.CORRUPT and codec.family != "rle" and not _ends(frame, codec):
            raise RadiographError(Reason.TRUNCATED, "The compressed image ends early.") from None
        raise
    if pixels.shape[:2] != (-(-layout.rows // by), -(-layout.columns // by)) or pixels.shape[2:] not in ((), (3,)):
        raise RadiographError(Reason.CORRUPT, "The decoded image is not of the size that the tags say.")
    return pixels


def _decode(frame: bytes, codec: Codec, layout: Layout, by: int, raw_rgb: bool) -> NDArray[Any]:
    if codec.family == "rle":
        return _decode_rle(frame, layout)
    if codec.family == "wavelet":
        return _decode_wavelet(frame, by)
    if codec.family == "dct" and read_jpeg_header(frame).precision == 8:
        return _decode_baseline(frame, by, raw_rgb)
    whole = whole_jpeg(frame)
    if whole is None:  # these decoders fill the rest with grey, or wait for it, instead of an error
        raise RadiographError(Reason.TRUNCATED, "The compressed image ends early.")
    import imagecodecs  # here because few archives need it

    decode = imagecodecs.jpegls_decode if codec.family == "jpeg_ls" else imagecodecs.jpeg8_decode
    return np.asarray(decode(whole))


def _ends(frame: bytes, codec: Codec) -> bool:
    return _END_OF_IMAGE in frame if codec.family == "wavelet" else whole_jpeg(frame) is not None


def _decode_baseline(frame: bytes, by: int, raw_rgb: bool) -> NDArray[np.uint8]:
    check_scan(frame)
    with Image.open(io.BytesIO(frame), formats=("JPEG",)) as image:
        as_stored = raw_rgb and not {"adobe_transform", "jfif"} & image.info.keys()
        if by > 1 or as_stored:
            image.draft("YCbCr" if as_stored else None, (image.width // by, image.height // by))
        return np.asarray(image)


def _decode_wavelet(frame: bytes, by: int) -> NDArray[Any]:
    if by > 1:
        return _decode_wavelet_reduced(wavelet_codestream(frame), by)
    from openjpeg.utils import decode

    return decode(wavelet_codestream(frame), 0)


def _decode_wavelet_reduced(codestream: bytes, by: int) -> NDArray[Any]:
    """Decode without the finest resolutions; Pillow's scaling to 16 bits and its offset of signed values are undone.

    Pillow rounds the reduced size where OpenJPEG rounds up, and fails: so the size and the tile are set here.
    """
    header = read_wavelet_header(codestream)
    with Image.open(io.BytesIO(codestream), formats=("JPEG2000",)) as image:
        image._size = (-(-image.width // by), -(-image.height // by))
        place = ("j2k", by.bit_length() - 1, 0, -1, len(codestream))
        image.tile = [ImageFile._Tile("jpeg2k", (0, 0, *image.size), 0, place)]
        image.load()
        values: NDArray[Any] = np.asarray(image)
    width = 8 * values.dtype.itemsize
    values = np.right_shift(values, width - header.precision)
    if header.signed:
        values = (values.astype(np.int32) - 2 ** (header.precision - 1)).astype(f"i{width // 8}")
    return values


def _decode_rle(frame: bytes, layout: Layout) -> NDArray[Any]:
    """Decode RLE (PS3.5 G): a segment a byte of the pixel, most significant first, each into a buffer of its size."""
    size, width = layout.rows * layout.columns, layout.allocated // 8
    offsets = np.frombuffer(frame[:64].ljust(64, b"\0"), "<u4").astype(np.int64)
    count = int(offsets[0])
    if count != width * layout.samples or count > _MOST_SEGMENTS:
        raise RadiographError(Reason.CORRUPT, "The compressed image has not one segment a byte.")
    ends = [*offsets[2 : count + 1].tolist(), len(frame)]
    planes = np.zeros((count, size + 1), np.uint8)  # a segment may be padded to an even size
    for plane, start, end in zip(planes, offsets[1 : count + 1].tolist(), ends, strict=True):
        if not 64 <= start <= end <= len(frame) or _unpack(frame[start:end], plane) < size:
            raise RadiographError(Reason.TRUNCATED, "The compressed image ends early.")
    bytes_PCS = planes[:, :-1].reshape(layout.samples, width, size)
    pixels = np.ascontiguousarray(bytes_PCS[:, ::-1].transpose(2, 0, 1)).view(f"<u{width}")  # least significant first
    channels = (layout.samples,) if layout.samples > 1 else ()
    return pixels.reshape(layout.rows, layout.columns, *channels)


def _unpack(segment: bytes, plane: NDArray[np.uint8]) -> int:
    """Unpack a segment into its plane, never further, and return how many bytes it gave."""
    import imagecodecs

    unpack: Any = imagecodecs.packbits_decode
    try:
        return len(unpack(segment, out=plane))
    except RuntimeError:  # a zero that pads the segment reads as the head of one more byte
        return len(unpack(segment + b"\0", out=plane))
