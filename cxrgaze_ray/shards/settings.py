"""What can be chosen about an ingest."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxrgaze_ray.config import Settings, Text
from cxrgaze_ray.radiograph.preprocess import DEFAULT_PROFILE
from cxrgaze_ray.shards.store import SplitBy, SplitSettings


class IngestSettings(Settings):
    """What goes into a store."""

    profile: Text = DEFAULT_PROFILE
    """Preprocessing profile of the images."""

    gaze_profile: Text = "paper"
    """How EGD-CXR's samples become a map. REFLACX's fixations are as wide as one degree of view."""

    labels: Literal["sheet", "chexpert"] = "sheet"
    """sheet: EGD-CXR's master sheet alone; chexpert: where it has no label, the archive's CheXpert findings."""

    shard_rows: int = Field(64, ge=1, le=100_000)
    """Files a shard is made of: the unit of commit and resume."""

    chunk_rows: int = Field(16, ge=1, le=10_000)
    """Images a worker holds at once: 1.3 MB an image with gaze, and 0.65 MB for each reader where there are several."""

    keep: Literal["labelled", "all"] = "labelled"
    """labelled: files that have a label or gaze; all: every file of the archive."""

    split_by: SplitBy = "patient"
    """patient: a salted hash of the patient; archive: the archive's own train, validate and test; image: as patient,
    and an image whose patient nobody names stands for one of its own; paper: 983 and 100 images of EGD-CXR, by patient;
    released: as the released code, by image (see `published_splits`)."""

    split: SplitSettings = SplitSettings()
    """How patients are split."""
