"""Phantom files, and what every profile has to make of them: `profiles.json`.

``python -m tests.golden`` writes that file anew. A profile whose figures change is another profile: give it a new name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.preprocess import ModelImage, prepare, profile_names
from cxrgaze_ray.radiograph.reading import read_radiograph
from tests.dicom_files import make_dicom, picture

FILE = Path(__file__).with_name("profiles.json")
PLACES = ((0.1, 0.1), (0.3, 0.8), (0.5, 0.5), (0.7, 0.2), (0.95, 0.6))
"""As shares of height and width of what the model image shows of the source."""


def chest(rows: int, columns: int, bits: int, seed: int = 0) -> NDArray[np.uint16]:
    """Return integers that any machine can make again: slopes, a bright disc, a bright mark at the top left, noise."""
    y, x = np.mgrid[:rows, :columns].astype(np.int64)
    values = 300 * y // rows + 200 * x // columns
    values += 250 * ((y - rows // 2) ** 2 + (x - 3 * columns // 5) ** 2 < (min(rows, columns) // 4) ** 2)
    values += 150 * ((y < rows // 8) & (x < columns // 8))
    noise = np.random.default_rng(seed).integers(0, 100, (rows, columns))
    scaled: NDArray[np.uint16] = ((values + noise) * (2**bits - 1) // 1000).astype(np.uint16)
    return scaled


def _padded() -> bytes:
    pixels = chest(700, 600, 12)
    pixels[:, :90] = 4095
    return make_dicom(pixels, BitsStored=12, PixelPaddingValue=4095)


CASES: dict[str, Callable[[], bytes]] = {
    "12 bit": lambda: make_dicom(chest(800, 640, 12), BitsStored=12),
    "15 bit MONOCHROME1": lambda: make_dicom(
        chest(750, 700, 15), BitsStored=15, PhotometricInterpretation="MONOCHROME1"
    ),
    "8 bit": lambda: make_dicom(chest(660, 520, 8).astype(np.uint8)),
    "signed": lambda: make_dicom((chest(700, 560, 12).astype(np.int16) - 2000).astype(np.int16)),
    "padding": _padded,
    "rescale": lambda: make_dicom(chest(800, 640, 12), BitsStored=12, RescaleSlope="1.5", RescaleIntercept="-1024"),
    "window": lambda: make_dicom(chest(800, 640, 12), BitsStored=12, WindowCenter="1800", WindowWidth="1500"),
    "landscape": lambda: make_dicom(chest(500, 1100, 12), BitsStored=12),
    "smaller than the model image": lambda: make_dicom(chest(120, 90, 12), BitsStored=12),
    "larger than 3200x2560": lambda: make_dicom(chest(3301, 2802, 8).astype(np.uint8)),
    "PNG": lambda: picture(chest(800, 640, 8).astype(np.uint8), "PNG"),
}


def describe(image: ModelImage) -> dict[str, Any]:
    """Return what is held against the file: a digest of the pixels, and a few of them."""
    shown = image.pixels[image.affine.shown]
    return {
        "sha256": hashlib.sha256(image.pixels.astype("<u2").tobytes()).hexdigest(),
        "pixels": [int(shown[int(down * shown.shape[0]), int(across * shown.shape[1])]) for down, across in PLACES],
    }


def written() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the figures by case and profile."""
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(FILE.read_text())
    return found


def outcome(data: bytes, profile: str) -> dict[str, Any]:
    """Return what a profile makes of a file: figures, or a reason."""
    try:
        return describe(prepare(read_radiograph(data), profile))
    except RadiographError as error:
        return {"reason": str(error.reason)}


def write() -> None:
    """Write the figures of this version."""
    figures = {case: {name: outcome(make(), name) for name in profile_names()} for case, make in CASES.items()}
    FILE.write_text(json.dumps(figures, indent=1) + "\n")
