"""The model image, and where a source's pixels lie in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Self

import pyarrow as pa

from cxrgaze_ray.schemas.orientation import UPRIGHT, turn_point, turn_point_back, upright_size

HEIGHT, WIDTH = 640, 512
"""Model image in pixels; always height x width."""


@dataclass(frozen=True)
class Affine:
    """Where source pixels lie in the model image: ``model = upright * scale + offset``, pixel centres at +0.5.

    A source is turned upright first, where its file says that it is to be: see `orientation`.

    Attributes
    ----------
    scale_y, scale_x
        Model pixels per pixel of the upright source.
    offset_y, offset_x
        Where the upright source begins, in model pixels: the padding before it; below 0 where it was cropped.
    rows, columns
        Size of the source in pixels, as it is stored.
    orientation
        Exif's number of how the stored source is turned to stand upright; 1 if it is not.
    """

    scale_y: float
    scale_x: float
    offset_y: float
    offset_x: float
    rows: int
    columns: int
    orientation: int = UPRIGHT

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the affine of a row's ``affine`` column; rows of before orientations have none."""
        return cls(**{**row, "orientation": row.get("orientation") or UPRIGHT})

    @property
    def upright(self) -> tuple[int, int]:
        """Rows and columns of the source as it stands upright."""
        return upright_size(self.orientation, self.rows, self.columns)

    def turned(self, orientation: int) -> Self:
        """Return the affine of a stored source, given that of the upright one."""
        rows, columns = upright_size(orientation, self.rows, self.columns)
        return replace(self, rows=rows, columns=columns, orientation=orientation)

    @property
    def content_origin(self) -> tuple[int, int]:
        """First row and column of model pixels whose centre lies on the source; below 0 where it was cropped."""
        return ceil(self.offset_y - 0.5), ceil(self.offset_x - 0.5)

    @property
    def content_size(self) -> tuple[int, int]:
        """Height and width of the whole picture in model pixels, without padding; cropped parts count."""
        (top, left), (rows, columns) = self.content_origin, self.upright
        bottom = ceil(self.offset_y + rows * self.scale_y - 0.5)
        return bottom - top, ceil(self.offset_x + columns * self.scale_x - 0.5) - left

    @property
    def shown(self) -> tuple[slice, slice]:
        """Rows and columns of the model image that show the source: neither padding nor cropped away."""
        (top, left), (height, width) = self.content_origin, self.content_size
        return slice(max(0, top), min(HEIGHT, top + height)), slice(max(0, left), min(WIDTH, left + width))

    @property
    def shown_content(self) -> tuple[slice, slice]:
        """The same pixels, as rows and columns of the whole picture."""
        (top, left), (rows, columns) = self.content_origin, self.shown
        return slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)

    def to_model(self, y: float, x: float) -> tuple[float, float]:
        """Map a point of the stored source to the model image."""
        y, x = turn_point(y, x, self.orientation, self.rows, self.columns)
        return y * self.scale_y + self.offset_y, x * self.scale_x + self.offset_x

    def to_source(self, y: float, x: float) -> tuple[float, float]:
        """Map a model image point back to the stored source."""
        y, x = (y - self.offset_y) / self.scale_y, (x - self.offset_x) / self.scale_x
        return turn_point_back(y, x, self.orientation, self.rows, self.columns)


AFFINE = pa.struct(
    [
        ("scale_y", pa.float64()),
        ("scale_x", pa.float64()),
        ("offset_y", pa.float64()),
        ("offset_x", pa.float64()),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("orientation", pa.int8()),
    ]
)
