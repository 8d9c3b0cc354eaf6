"""A decoding process that does not decode: it answers every request at once, with the same grey image.

What remains is what isolation costs: fetching, two pipes, and an image's way through them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from cxrgaze_ray.radiograph.decoding.worker import main
from cxrgaze_ray.radiograph.preprocess import ModelImage
from cxrgaze_ray.radiograph.reading import Facts, Radiograph
from cxrgaze_ray.schemas import HEIGHT, WIDTH, Affine


def answer(_data: bytes, _options: dict[str, Any]) -> tuple[Radiograph, ModelImage]:
    """Stand for `decoding.worker.decode_image`."""
    return _canned()


@cache
def _canned() -> tuple[Radiograph, ModelImage]:
    pixels = np.full((HEIGHT, WIDTH), 2**15, np.uint16)
    affine = Affine(1.0, 1.0, 0.0, 0.0, HEIGHT, WIDTH)
    facts = Facts(view_position="PA", view_source="tag", rows=HEIGHT, columns=WIDTH, bits_stored=12)
    return Radiograph(pixels, pixels, None, False, facts), ModelImage(pixels, affine, 0.1, 0.5, 0.9, 0.5)


if __name__ == "__main__":
    main(answer)
