"""A run in the forms that other programs read: CSV, PNG overlays, DICOM Structured Reports and Secondary Captures."""

from cxrgaze_ray.export.driver import KINDS, Exported, Kind, export_run

__all__ = ["KINDS", "Exported", "Kind", "export_run"]
