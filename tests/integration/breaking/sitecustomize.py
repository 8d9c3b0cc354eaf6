"""Makes decoding processes, and no others, break on planted files. Every Python that has this folder on its
PYTHONPATH imports it first: so a whole cluster can be tested against a decoder that dies, with no hook in the product.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib import import_module
from typing import Any

ABORT, SEGFAULT, HANG = "BREAK-ABORT", "BREAK-SEGFAULT", "BREAK-HANG"
"""What ImageComments must say for the process to break when the pixels are decoded."""


def break_decoding() -> None:
    """Put a breaking decoder before the real one."""
    dicom: Any = import_module("cxrgaze_ray.radiograph.reading.dicom")
    real = dicom.decode_pixels

    def decode_pixels(dataset: Any, *arguments: Any, **options: Any) -> Any:
        mark = dataset.get("ImageComments")
        if mark == ABORT:
            os.abort()
        if mark == SEGFAULT:
            ctypes.string_at(0)
        if mark == HANG:
            ctypes.PyDLL(None).sleep(600)  # holds Python's lock, as native code does
        return real(dataset, *arguments, **options)

    dicom.decode_pixels = decode_pixels


if "cxrgaze_ray.radiograph.decoding.worker" in sys.orig_argv:
    break_decoding()
