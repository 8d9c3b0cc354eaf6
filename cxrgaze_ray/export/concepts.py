"""The coded concepts of a report: SNOMED CT and DICOM's own where they have one, else the private 99CXRGAZE."""

from __future__ import annotations

from highdicom.sr import CodedConcept

SCHEME = "99CXRGAZE"

FINDINGS = {
    "normal": CodedConcept("408573005", "SCT", "Imaging result normal"),
    "heart_failure": CodedConcept("84114007", "SCT", "Heart failure"),
    "pneumonia": CodedConcept("233604007", "SCT", "Pneumonia"),
}
"""The classes: SNOMED CT, the first two also in DICOM's context groups (PS3.16)."""

PROBABILITIES = {
    "normal": CodedConcept("probability-normal", SCHEME, "Probability of a normal radiograph"),
    "heart_failure": CodedConcept("probability-hf", SCHEME, "Probability of heart failure"),
    "pneumonia": CodedConcept("probability-pneumonia", SCHEME, "Probability of pneumonia"),
}
"""Names of the measurements; DICOM has one for cancer only (DCM 111047)."""

MOST_LIKELY = CodedConcept("most-likely-class", SCHEME, "Most likely class")
PROCEDURE = CodedConcept("168537006", "SCT", "Plain radiography")
FAMILY = CodedConcept("123110", "DCM", "Artificial Intelligence")
COMMENT = CodedConcept("121106", "DCM", "Comment")
NO_UNITS = CodedConcept("1", "UCUM", "no units")
