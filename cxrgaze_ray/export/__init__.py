"""A run in the forms that other programs read: tables, PNG overlays, DICOM Structured Reports and Secondary Captures.

`export_run` does all of it; `query` answers SQL; `picture` draws one result, for whoever shows one. Knows nothing of
models: rows and source files are enough.
"""

from cxrgaze_ray.export.driver import KINDS, Exported, Kind, export_run

__all__ = ["KINDS", "Exported", "Kind", "export_run"]
