"""Bytes to model image, in a process that may crash: ingest, scoring and serving all decode through it."""

from cxrgaze_ray.radiograph.decoding.client import Decoded, Decoder

__all__ = ["Decoded", "Decoder"]
