"""What a Structured Report and a Secondary Capture have in common: equipment, times, UIDs and bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID

from cxrgaze_ray.export import repair
from cxrgaze_ray.export.source import Source
from cxrgaze_ray.export.uids import make_uid
from cxrgaze_ray.scoring.runs import RunSpec

MANUFACTURER = "cxrgaze"
MODEL_NAME = "cxrgaze research model"


@dataclass(frozen=True)
class DerivedObject:
    """A new object beside its source: one series for each study, run and kind; one instance for each row.

    Attributes
    ----------
    kind
        ``sr`` or ``sc``.
    spec
        The run.
    row
        A scored row of `schemas.RESULT`.
    source
        Its image.
    """

    kind: str
    spec: RunSpec
    row: dict[str, Any]
    source: Source

    @property
    def series(self) -> UID:
        """SeriesInstanceUID."""
        return make_uid(self.spec.run_id, self.kind, "series", self.source.study)

    @property
    def instance(self) -> UID:
        """SOPInstanceUID."""
        return self._row_uid("instance")

    @property
    def tracking(self) -> UID:
        """Tracking UID of the measurements."""
        return self._row_uid("tracking")

    @property
    def number(self) -> int:
        """InstanceNumber: the row's number in the run's plan, from 1."""
        return int(self.row["shard"]) * self.spec.shard_rows + int(self.row["position"]) + 1

    @property
    def time(self) -> datetime:
        """When the row was scored, in the zone of the source's times."""
        return self.source.local_time(self.row["scored_at"])

    @property
    def equipment(self) -> dict[str, Any]:
        """General Equipment, as highdicom takes it: the model's name and version, never the source's device."""
        version = repair.description(f"{self.spec.model.name} {self.spec.model.version}")
        return {
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MODEL_NAME,
            "software_versions": (version or "", f"cxrgaze {self.spec.code_version}"[:64]),
            "device_serial_number": self.spec.model.weights_sha256[:64],
        }

    def _row_uid(self, purpose: str) -> UID:
        place = f"{self.row['shard']}/{self.row['position']}"
        return make_uid(self.spec.run_id, self.kind, purpose, self.row["image_id"] or "", place)


def finish(target: Dataset, derived: DerivedObject) -> bytes:
    """Give an object its patient and study and the times of its row, and return its file.

    The constructors never see the identity: their warnings and errors quote what they are given.
    """
    derived.source.set_identity(target)
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "DateOfSecondaryCapture", "TimeOfSecondaryCapture"):
        target.pop(keyword, None)  # when the export ran: it would change the bytes, and says nothing of the result
    for equipment in target.get("ContributingEquipmentSequence", []):
        equipment.pop("ContributionDateTime", None)
    target.ContentDate, target.ContentTime = f"{derived.time:%Y%m%d}", f"{derived.time:%H%M%S}"
    file = io.BytesIO()
    target.save_as(file, enforce_file_format=True)
    return file.getvalue()
