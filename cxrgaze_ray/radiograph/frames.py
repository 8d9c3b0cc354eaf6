"""One compressed frame to an array, whole or at a lower resolution."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.bounds import check_size, decoder_errors
from cxrgaze_ray.radiograph.codecs import Codec
from cxrgaze_ray.radiograph.codestream import (
    Codestream,
    read_jpeg_header,
    read_wavelet_header,
    wavelet_codestream,
)
from cxrgaze_ray.schemas import HEIGHT, WIDTH, Reason

_END_OF_IMAGE = b"\xff\xd9"
_MOST_SEGMENTS = 15
_REDUCTIONS = (8, 4, 2)


def reduction(rows: int, columns: int) -> int:
    """Return 8, 4 or 2: the most that an image can be shrunk and still hold its picture in the model image; else 1."""
    scale = min(HEIGHT / rows, WIDTH / columns)
    height, width = round(rows * scale), round(columns * scale)
    return next((by for by in _REDUCTIONS if -(-rows // by) >= height and -(-columns // by) >= width), 1)


def read_header(frame: bytes, codec: Codec) -> Codestream | None:
    """Read what the frame says of itself; None for RLE, which says nothing."""
    if codec.family == "rle":
        return None
    return read_wavelet_header(wavelet_codestream(frame)) if codec.family == "wavelet" else read_jpeg_header(frame)


def check_header(header: Codestream, rows: int, columns: int, allocated: int) -> None:
    """Hold a frame's own size, channels and bits against the tags'.

    Raises
    ------
    RadiographError
        TOO_LARGE or CORRUPT.
    """
    check_size(header.rows, header.columns)
    if (header.rows, header.columns, header.components) != (rows, columns, 1) or header.precision > allocated:
        raise RadiographError(Reason.CORRUPT, "The compressed image is not of the size or colour that the tags say.")


def decode_frame(frame: bytes, codec: Codec, rows: int, columns: int, allocated: int, by: int = 1) -> NDArray[Any]:
    """Decode a frame whose header was checked.

    Parameters
    ----------
    frame
        The compressed bytes.
    codec
        Of its transfer syntax.
    rows, columns, allocated
        Size in pixels and bits of a pixel, as the tags say.
    by
        1, 2, 4 or 8: what the sides are divided by, rounded up; of ``dct`` of 8 bits and ``wavelet`` only.

    Returns
    -------
    NDArray
        8 or 16 bit integers, of the frame's own signedness.

    Raises
    ------
    RadiographError
        TRUNCATED or CORRUPT.
    """
    try:
        with decoder_errors():
            pixels = _decode(frame, codec, rows, columns, allocated, by)
    except RadiographError as error:
        if error.reason == Reason.CORRUPT and codec.family != "rle" and not _ends(frame):
            raise RadiographError(Reason.TRUNCATED, "The compressed image ends early.") from None
        raise
    if pixels.shape != (-(-rows // by), -(-columns // by)):
        raise RadiographError(Reason.CORRUPT, "The decoded image is not of the size that the tags say.")
    return pixels


def _decode(frame: bytes, codec: Codec, rows: int, columns: int, allocated: int, by: int) -> NDArray[Any]:
    if codec.family == "rle":
        return _decode_rle(frame, rows, columns, allocated)
    if codec.family == "wavelet":
        return _decode_wavelet(frame, by)
    if codec.family == "dct" and read_jpeg_header(frame).precision == 8:
        return _decode_baseline(frame, by)
    if not _ends(frame):  # these decoders fill the rest with grey, or wait for it, instead of an error
        raise RadiographError(Reason.TRUNCATED, "The compressed image ends early.")
    import imagecodecs  # here because few archives need it

    decode = imagecodecs.jpegls_decode if codec.family == "jpeg_ls" else imagecodecs.jpeg8_decode
    return np.asarray(decode(frame))


def _ends(frame: bytes) -> bool:
    return _END_OF_IMAGE in frame[-8:]


def _decode_baseline(frame: bytes, by: int) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(frame), formats=("JPEG",)) as image:
        if by > 1:
            image.draft(None, (image.width // by, image.height // by))
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


def _decode_rle(frame: bytes, rows: int, columns: int, allocated: int) -> NDArray[Any]:
    """Decode RLE (PS3.5 G): a segment a byte of the pixel, most significant first, each into a buffer of its size."""
    offsets = np.frombuffer(frame[:64].ljust(64, b"\0"), "<u4").astype(np.int64)
    count = int(offsets[0])
    if count != allocated // 8 or count > _MOST_SEGMENTS:
        raise RadiographError(Reason.CORRUPT, "The compressed image has not one segment a byte.")
    ends = [*offsets[2 : count + 1].tolist(), len(frame)]
    planes = np.zeros((count, rows * columns + 1), np.uint8)  # a segment may be padded to an even size
    for plane, start, end in zip(planes, offsets[1 : count + 1].tolist(), ends, strict=True):
        if not 64 <= start <= end <= len(frame) or _unpack(frame[start:end], plane) < rows * columns:
            raise RadiographError(Reason.TRUNCATED, "The compressed image ends early.")
    pixels = np.ascontiguousarray(planes[::-1, :-1].T)  # least significant byte first
    return pixels.view(f"<u{count}").reshape(rows, columns)


def _unpack(segment: bytes, plane: NDArray[np.uint8]) -> int:
    """Unpack a segment into its plane, never further, and return how many bytes it gave."""
    import imagecodecs

    unpack: Any = imagecodecs.packbits_decode
    try:
        return len(unpack(segment, out=plane))
    except RuntimeError:  # a zero that pads the segment reads as the head of one more byte
        return len(unpack(segment + b"\0", out=plane))
