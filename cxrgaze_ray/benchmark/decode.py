"""Bytes to model image, per format: ours beside the bare decoder and beside a plain script that does the same."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread

from cxrgaze_ray.benchmark.samples import Sample
from cxrgaze_ray.benchmark.timing import Timing, race
from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.radiograph.preprocess import DEFAULT_PROFILE
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.schemas import HEIGHT, WIDTH

OURS, REDUCED, BARE, SCRIPT = "ours", "reduced", "bare decoder", "plain script"


@dataclass(frozen=True)
class FormatResult:
    """One format's result.

    Attributes
    ----------
    name, rows, columns
        What was decoded, and its size in pixels.
    timings
        Figures by contestant: ours and reduced (both through the isolated process that a run decodes in),
        the bare decoder (to stored values only), and the plain script (in its own process, no isolation).
    difference
        Mean difference of our model image and the script's, of 1.
    reduced_as
        Resolution that reduced decoding chose: full, 1/2, 1/4 or 1/8.
    reduced_difference
        Mean difference of the reduced and the full model image, of 1.
    """

    name: str
    rows: int
    columns: int
    timings: dict[str, Timing]
    difference: float
    reduced_as: str
    reduced_difference: float

    def rate(self, name: str) -> float:
        """Images a second on one core."""
        return 1 / self.timings[name].seconds

    def ratio(self, name: str) -> float:
        """How many times as fast as the plain script."""
        return self.timings[SCRIPT].seconds / self.timings[name].seconds


def bench_decode(samples: list[Sample], rounds: int = 5) -> Iterator[FormatResult]:
    """Race the contestants on each sample, with the libraries' own threads held to one."""
    with (
        _one_thread(),
        Decoder(DEFAULT_PROFILE) as full,
        Decoder(DEFAULT_PROFILE, reading=Reading(reduced=True)) as reduced,
    ):
        for sample in samples:
            contestants: dict[str, Callable[[], object]] = {
                OURS: partial(full.decode, sample.data),
                REDUCED: partial(reduced.decode, sample.data),
                BARE: partial(stored_values, sample.data),
                SCRIPT: partial(plain_script, sample.data),
            }
            timings = race(contestants, rounds)
            ours, less = full.decode(sample.data), reduced.decode(sample.data)
            yield FormatResult(
                sample.name,
                int(ours.facts["rows"]),
                int(ours.facts["columns"]),
                timings,
                difference=float(np.abs(ours.pixels / 65535 - plain_script(sample.data)).mean()),
                reduced_as=str(less.facts["decode"]),
                reduced_difference=float(np.abs(ours.pixels / 65535 - less.pixels / 65535).mean()),
            )


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def stored_values(data: bytes) -> NDArray[np.generic]:
    """Decode with pydicom or Pillow and nothing else."""
    if data[128:132] == b"DICM":
        pixels: NDArray[np.generic] = dcmread(io.BytesIO(data)).pixel_array
        return pixels
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def plain_script(data: bytes) -> NDArray[np.float64]:
    """Do what profile cxrgaze-v1 does, as a script of pydicom, Pillow and NumPy would: no bounds, no isolation.

    Returns
    -------
    ndarray
        (640, 512) in [0,1].
    """
    inverted = False
    if data[128:132] == b"DICM":
        dataset = dcmread(io.BytesIO(data))
        values = dataset.pixel_array.astype(np.float32)
        values = values * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
        inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    else:
        with Image.open(io.BytesIO(data)) as image:
            values = np.asarray(image).astype(np.float32)
    low, high = np.percentile(values, (0.1, 99.9))
    values = np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
    if inverted:
        values = 1 - values
    scale = min(HEIGHT / values.shape[0], WIDTH / values.shape[1])
    height, width = round(values.shape[0] * scale), round(values.shape[1] * scale)
    content = np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BOX))
    padded = np.zeros((HEIGHT, WIDTH))
    top, left = (HEIGHT - height) // 2, (WIDTH - width) // 2
    padded[top : top + height, left : left + width] = content
    return padded
