"""Whether the pixels of a JPEG are all there: Pillow fills what is missing, and says nothing."""

from __future__ import annotations

import re

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.schemas import Reason

_EXTRA = re.compile(r"(\d+) extraneous bytes")
_MOST_EXTRA = 64
"""Bytes before a marker that are an encoder's padding; a hole in the data leaves thousands."""


def check_scan(jpeg: bytes) -> None:
    """Refuse a JPEG of 8 bits whose data ends early or has a hole, as a copy that was broken off leaves it.

    libjpeg decodes such a picture with a warning. Its other warnings are of sound files too, and are passed over; a
    flipped bit that still is a code is not found by anybody. It takes half as long as decoding.

    Raises
    ------
    RadiographError
        TRUNCATED or CORRUPT.
    """
    import simplejpeg  # here because an archive of DICOM may never need it

    try:
        simplejpeg.decode_jpeg(jpeg, "GRAY", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        said = str(error).lower()
        if "premature end" in said:
            raise RadiographError(Reason.TRUNCATED, "The picture ends before its data does.") from None
        extra = _EXTRA.search(said)
        if "bad huffman code" in said or (extra is not None and int(extra[1]) > _MOST_EXTRA):
            raise RadiographError(Reason.CORRUPT, "The picture's data has a hole.") from None
