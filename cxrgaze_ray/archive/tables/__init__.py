"""Tables that users bring, CSV or Parquet: every reader of an archive's list or a data set's table reads them here."""

from cxrgaze_ray.archive.tables.parquet import open_parquet
from cxrgaze_ray.archive.tables.read import TextTable, columns_of, read_rows, read_table
from cxrgaze_ray.archive.tables.text import Limits

__all__ = ["Limits", "TextTable", "columns_of", "open_parquet", "read_rows", "read_table"]
