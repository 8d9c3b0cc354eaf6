"""DICOM Secondary Capture of one overlay: a colour picture in the source's study, without spacing or position."""

from __future__ import annotations

import numpy as np
from highdicom import CoordinateSystemNames
from highdicom.sc import ConversionTypeValues, SCImage
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from cxrgaze_ray.export.dicom import DerivedObject, finish
from cxrgaze_ray.export.picture import chances
from cxrgaze_ray.radiograph.reading import quiet
from cxrgaze_ray.schemas import RESEARCH_ONLY

SERIES = 9102
"""SeriesNumber: out of the way of what a modality numbers."""

_ANY = ("L", "F")
"""What the constructor insists on; never written."""


def capture_bytes(derived: DerivedObject, picture_HWC: NDArray[np.uint8]) -> bytes:
    """Return the file of a picture; see `picture.draw_result`.

    Its pixels are not the source's and a legend lies below them: no pixel spacing is given. PatientOrientation is the
    source's, or empty (type 2C) where that has none.
    """
    with quiet():
        image = SCImage(
            pixel_array=np.ascontiguousarray(picture_HWC),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system=CoordinateSystemNames.PATIENT,
            patient_orientation=_ANY,
            study_instance_uid=derived.source.study,
            series_instance_uid=derived.series,
            series_number=SERIES,
            sop_instance_uid=derived.instance,
            instance_number=derived.number,
            series_description=f"cxrgaze overlay. {RESEARCH_ONLY}",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            **derived.equipment,
        )
        _describe(image, derived)
        return finish(image, derived)


def _describe(image: Dataset, derived: DerivedObject) -> None:
    source = derived.source
    image.PatientOrientation = list(source.orientation) if source.orientation else None
    if source.chest and not source.laterality:
        image.BodyPartExamined = "CHEST"
    else:
        image.Laterality = source.laterality or ""  # type 2C: empty is unknown, and absent an unpaired part
    image.ConversionType = ConversionTypeValues.WSD.value
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.DerivationDescription = "Predicted gaze density laid over the source image, scaled; legend burned in below."
    image.SourceImageSequence = [_reference(derived)]
    image.ImageComments = f"{RESEARCH_ONLY} {chances(derived.row)}."
    if source.burned_in:
        image.BurnedInAnnotation = source.burned_in
    image.LossyImageCompression = "01" if source.lossy else "00"


def _reference(derived: DerivedObject) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = derived.source.sop_class, derived.source.sop_instance
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item
