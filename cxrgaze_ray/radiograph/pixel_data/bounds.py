"""Limits that hold before a decoder runs, and the seam that turns decoders' exceptions into reasons."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image
from pydicom.errors import BytesLengthException, InvalidDicomError

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.schemas import Reason

MAX_PIXELS = 64 * 2**20
"""Largest image: four times the largest detector on sale."""

MAX_INFLATED = 2 * MAX_PIXELS + 16 * 2**20
"""Largest data set out of a deflated file: 16-bit pixels of the largest image, and 16 MiB of tags."""

# What pydicom, Pillow and their codecs raise on malformed data. Pillow's PNG reader raises SyntaxError.
BAD_DATA = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, NotImplementedError, OSError,
    RecursionError, RuntimeError, SyntaxError, TypeError, ValueError, struct.error, zlib.error,
    BytesLengthException, InvalidDicomError,
)  # fmt: skip


@contextmanager
def decoder_errors() -> Iterator[None]:
    """Make CORRUPT, or TOO_LARGE, of what a third-party decoder raises.

    Wrap calls into the decoder only, never our own code. The cause is dropped: its message may hold values of tags.
    """
    try:
        yield
    except RadiographError:
        raise
    except Image.DecompressionBombError:
        raise RadiographError(Reason.TOO_LARGE, "The picture is too large to decode.") from None
    except BAD_DATA as error:
        raise RadiographError(Reason.CORRUPT, f"The decoder failed: {type(error).__name__}.") from None


def check_size(rows: int, columns: int) -> None:
    """Refuse sizes that are not positive, or too large to decode."""
    if rows <= 0 or columns <= 0:
        raise RadiographError(Reason.CORRUPT, "The image has no rows or no columns.")
    if rows * columns > MAX_PIXELS:
        raise RadiographError(Reason.TOO_LARGE, f"The image has more than {MAX_PIXELS // 2**20} megapixels.")


def inflate(data: bytes) -> bytes:
    """Inflate a raw deflate stream, never further than `MAX_INFLATED`."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    with decoder_errors():
        inflated = stream.decompress(data, MAX_INFLATED + 1)
    if len(inflated) > MAX_INFLATED:
        raise RadiographError(Reason.TOO_LARGE, f"The file inflates to over {MAX_INFLATED // 2**20} MiB.")
    if not stream.eof:
        raise RadiographError(Reason.TRUNCATED, "The deflated file ends early.")
    return inflated
