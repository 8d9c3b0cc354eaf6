"""Columns of a data set's CSV tables, as text and as numbers."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from cxrgaze_ray.errors import UserError


def read_columns(data: bytes, name: str, columns: list[str], hint: str) -> pa.Table:
    """Read some columns of a CSV table as text, empty cells as null.

    Raises
    ------
    UserError
        If it is no CSV table with these columns.
    """
    options = pacsv.ConvertOptions(
        include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=True
    )
    parse = pacsv.ParseOptions(newlines_in_values=True)  # reports in a master sheet span lines
    try:
        return pacsv.read_csv(io.BytesIO(data), parse_options=parse, convert_options=options)
    except (pa.ArrowInvalid, KeyError) as error:
        raise UserError(f"{name} has not the columns {', '.join(columns)}.", hint) from error


def as_numbers(column: pa.ChunkedArray, name: str) -> NDArray[np.float64]:
    """Return a text column of the table `name` as numbers, NaN where it is empty; UserError if one is no number."""
    try:
        values: NDArray[np.float64] = pc.fill_null(pc.cast(column, pa.float64()), float("nan")).to_numpy()
    except pa.ArrowInvalid as error:
        raise UserError(f"{name} has a value that is no number.", "Check the file.") from error
    return values
