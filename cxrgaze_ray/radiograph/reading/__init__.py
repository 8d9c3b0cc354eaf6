"""Bytes of a DICOM, JPEG or PNG to a Radiograph: stored values, and the facts that stand beside them."""

from __future__ import annotations

from dataclasses import replace

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.pixel_data.codecs import CODECS, Codec, codec_table
from cxrgaze_ray.radiograph.reading.dicom import read_dicom, read_tags
from cxrgaze_ray.radiograph.reading.facts import Facts, Radiograph, Reading
from cxrgaze_ray.radiograph.reading.polarity import check_polarity
from cxrgaze_ray.radiograph.reading.quiet import quiet
from cxrgaze_ray.radiograph.reading.raster import read_raster
from cxrgaze_ray.radiograph.reading.sniff import SNIFF_BYTES, sniff
from cxrgaze_ray.radiograph.reading.views import read_view, view_of_procedure
from cxrgaze_ray.radiograph.reading.voi import LookUpTable, Voi, Window
from cxrgaze_ray.schemas import Reason

__all__ = [
    "CODECS",
    "SNIFF_BYTES",
    "Codec",
    "Facts",
    "LookUpTable",
    "Radiograph",
    "Reading",
    "Voi",
    "Window",
    "codec_table",
    "quiet",
    "read_radiograph",
    "read_tags",
    "read_view",
    "sniff",
    "view_of_procedure",
]


def read_radiograph(data: bytes, reading: Reading | None = None) -> Radiograph:
    """Read one radiograph, whatever its format; the format is told from the bytes, never from a name.

    Parameters
    ----------
    data
        The whole file.
    reading
        How; by default every view at full resolution.

    Raises
    ------
    RadiographError
        With the reason, if the file is not one usable greyscale frame.
    """
    radiograph = _read(data, reading or Reading())
    return replace(radiograph, facts=replace(radiograph.facts, photometric_check=check_polarity(radiograph)))


def _read(data: bytes, reading: Reading) -> Radiograph:
    if not data:
        raise RadiographError(Reason.EMPTY_FILE, "The file is empty.")
    kind = sniff(data[:SNIFF_BYTES])
    if kind == "dicom":
        return read_dicom(data, reading)
    if kind in ("jpeg", "png"):
        return read_raster(data, reading)
    raise RadiographError(Reason.NOT_AN_IMAGE, "The file is neither DICOM, JPEG nor PNG.")
