"""Whose image a source is, for the objects that go beside it: the only place where identity is read.

What is read goes into the new DICOM object and nowhere else: not into logs, errors or file names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.export import repair
from cxrgaze_ray.export.repair import Repair
from cxrgaze_ray.radiograph.reading import quiet, read_tags

_EMPTY_IF_UNKNOWN: Mapping[str, Repair] = {
    "PatientName": repair.person,
    "PatientID": repair.identifier,
    "PatientBirthDate": repair.day,
    "PatientSex": repair.sex,
    "StudyDate": repair.day,
    "StudyTime": repair.time,
    "StudyID": repair.short_identifier,
    "AccessionNumber": repair.short_identifier,
    "ReferringPhysicianName": repair.person,
}
"""Type 2 of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): there, if only empty."""

_ABSENT_IF_UNKNOWN: Mapping[str, Repair] = {
    "IssuerOfPatientID": repair.identifier,
    "PatientBirthTime": repair.time,
    "StudyDescription": repair.description,
    "PatientAge": repair.age,
    "PatientSize": repair.number,
    "PatientWeight": repair.number,
    "TimezoneOffsetFromUTC": repair.zone,
}
"""Type 3 of the same modules, of Patient Study and of SOP Common."""

RADIOGRAPHS = frozenset(
    {
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalXRayImageStorageForProcessing,
        SecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        XRayAngiographicImageStorage,
        XRayRadiofluoroscopicImageStorage,
    }
)
"""Classes that a radiograph is stored as; a report on one of a vendor's own class could not name what it is of."""

_LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K})
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError)


class NoIdentity(Exception):
    """The file lacks what an object beside it must name: valid UIDs of it, its series and study, a standard class."""


@dataclass(frozen=True, repr=False)
class Source:
    """A source image, as far as an object beside it needs it.

    Attributes
    ----------
    sop_class, sop_instance, series, study
        Its UIDs.
    identity
        Patient and study by keyword, every value valid; those of type 2 may be None.
    orientation
        PatientOrientation: where rows and columns point, if the file says.
    chest
        Whether the file says that it shows a chest: BodyPartExamined.
    laterality
        Laterality, R or L.
    burned_in
        BurnedInAnnotation, if the file says.
    lossy
        Whether its pixels were ever compressed with loss.
    """

    sop_class: str
    sop_instance: str
    series: str
    study: str
    identity: Mapping[str, str | None] = field(repr=False)
    orientation: tuple[str, str] | None = None
    chest: bool = False
    laterality: str | None = None
    burned_in: str | None = None
    lossy: bool = False

    def local_time(self, utc: datetime) -> datetime:
        """Return a time in the zone that the object's other times are in; UTC if the file does not say."""
        offset = self.identity.get("TimezoneOffsetFromUTC")
        return utc.astimezone(datetime.strptime(offset, "%z").tzinfo if offset else UTC)

    def set_identity(self, target: Dataset) -> None:
        """Write patient and study into an object, in UTF-8 where ASCII does not do."""
        for keyword, value in self.identity.items():
            setattr(target, keyword, value or "")
        target.SpecificCharacterSet = "ISO_IR 192"

    def evidence(self) -> Dataset:
        """Return a data set that names the image and nobody."""
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = UID(self.sop_class), UID(self.sop_instance)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = UID(self.study), UID(self.series)
        for keyword in _EMPTY_IF_UNKNOWN:
            setattr(dataset, keyword, None)
        return dataset


def read_source(data: bytes) -> Source:
    """Read a DICOM file's identity.

    Raises
    ------
    NoIdentity
        If it can't be read, or lacks UIDs; the message names nothing of it.
    """
    with quiet():
        try:
            dataset = read_tags(data)
        except RadiographError:
            raise NoIdentity from None
        uids = [
            _read(dataset, name, repair.uid)
            for name in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
        ]
        if None in uids or uids[0] not in RADIOGRAPHS:
            raise NoIdentity
        sop_class, sop_instance, series, study = map(str, uids)
        return Source(
            sop_class,
            sop_instance,
            series,
            study,
            identity=_identity(dataset),
            orientation=_orientation(dataset),
            chest=_read(dataset, "BodyPartExamined", repair.chest) is not None,
            laterality=_read(dataset, "Laterality", repair.side),
            burned_in=_read(dataset, "BurnedInAnnotation", repair.yes_no),
            lossy=_is_lossy(dataset),
        )


def _identity(dataset: Dataset) -> dict[str, str | None]:
    found = {name: _read(dataset, name, mend) for name, mend in {**_EMPTY_IF_UNKNOWN, **_ABSENT_IF_UNKNOWN}.items()}
    found |= _de_identified(dataset)
    return {name: value for name, value in found.items() if value or name in _EMPTY_IF_UNKNOWN}


def _de_identified(dataset: Dataset) -> dict[str, str | None]:
    """Say that identity was removed only with the method, which must stand beside it (type 1C)."""
    removed = _read(dataset, "PatientIdentityRemoved", repair.yes_no)
    method = _read(dataset, "DeidentificationMethod", repair.description)
    if removed == "YES" and method is None:
        method = "Not stated in the source image"
    return {"PatientIdentityRemoved": removed, "DeidentificationMethod": method if removed == "YES" else None}


def _values(dataset: Dataset, keyword: str) -> list[str]:
    """Return a tag's values as text; none if the bytes do not make a value of the tag's type."""
    try:
        value: Any = dataset.get(keyword)
        values = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
        return [str(one) for one in values if one is not None]
    except _UNREADABLE:
        return []


def _read(dataset: Dataset, keyword: str, mend: Repair) -> str | None:
    values = _values(dataset, keyword)
    return mend(values[0]) if values else None


def _orientation(dataset: Dataset) -> tuple[str, str] | None:
    values = [value.strip().upper() for value in _values(dataset, "PatientOrientation")]
    if len(values) == 2 and all(0 < len(value) <= 3 and not value.strip("AFHLPR") for value in values):
        return values[0], values[1]
    return None


def _is_lossy(dataset: Dataset) -> bool:
    told, syntax = _values(dataset, "LossyImageCompression"), _values(dataset.file_meta, "TransferSyntaxUID")
    return told == ["01"] or (told != ["00"] and bool(syntax) and syntax[0] in _LOSSY)
