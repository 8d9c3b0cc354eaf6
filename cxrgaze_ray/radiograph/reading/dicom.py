"""DICOM: which files are radiographs that can be scored, and the facts in their tags."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from pydicom import Dataset
from pydicom.filereader import read_dataset, read_partial, read_preamble
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.pixel_data.bounds import check_size, decoder_errors, inflate
from cxrgaze_ray.radiograph.pixel_data.tags import integer, sequence, text, texts
from cxrgaze_ray.radiograph.pixel_data.values import CHANNELS, PALETTE, PIXEL_DATA, decode_pixels
from cxrgaze_ray.radiograph.reading.elements import without_unknown_elements
from cxrgaze_ray.radiograph.reading.facts import DECODES, Facts, Radiograph, Reading, age_band, clean
from cxrgaze_ray.radiograph.reading.quiet import quiet
from cxrgaze_ray.radiograph.reading.spacing import read_pixel_aspect
from cxrgaze_ray.radiograph.reading.views import VIEW_CODES, is_frontal, known_view, read_view, view_of_procedure
from cxrgaze_ray.radiograph.reading.voi import read_voi
from cxrgaze_ray.schemas import Oddity, Reason, join_oddities

_PIXEL_DATA_MARKS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
_UNDEFINED = 0xFFFFFFFF
_EXPLICIT_META = bytes(128) + b"DICM\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"

NOT_CHEST = frozenset(
    {
        "ABDOMEN", "ANKLE", "ARM", "BRAIN", "BREAST", "CALCANEUS", "CSPINE", "ELBOW", "EXTREMITY", "FEMUR", "FINGER",
        "FOOT", "FOREARM", "HAND", "HEAD", "HEEL", "HIP", "HUMERUS", "JAW", "KNEE", "LEG", "LOWEREXTREMITY", "LSPINE",
        "MANDIBLE", "MAXILLA", "NECK", "PATELLA", "PELVIS", "SACRUM", "SHOULDER", "SKULL", "TIBIA", "TOE", "TSPINE",
        "UPPEREXTREMITY", "WRIST",
    }
)  # fmt: skip
"""Values of BodyPartExamined that are plainly no chest; anything else is read."""


NO_RADIOGRAPHY = frozenset(
    {
        "AR", "AU", "BDUS", "BI", "BMD", "CT", "DMS", "DOC", "ECG", "EPS", "ES", "GM", "HD", "IO", "IOL", "IVOCT",
        "IVUS", "KER", "KO", "LEN", "LS", "MG", "MR", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OPV", "OSS", "PR", "PT",
        "PX", "REG", "RESP", "RTDOSE", "RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT", "SEG", "SM", "SR", "TG", "US", "VA",
        "XA", "XC",
    }
)  # fmt: skip
"""Values of Modality that are plainly no radiography of a chest; CR, DX, RG, RF, OT, SC, others and none are read."""

PHOTOMETRICS = frozenset(
    {
        "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT",
        "YBR_PARTIAL_420", "XYB",
    }
)  # fmt: skip
"""Values of PhotometricInterpretation that are recorded (PS3.3 C.7.6.3.1.2)."""

_NOT_WALKED = frozenset({None, ImplicitVRLittleEndian, ExplicitVRBigEndian})
_READ = frozenset({"MONOCHROME1", "MONOCHROME2", PALETTE, *CHANNELS})

PROCEDURE_TEXTS = (
    "SeriesDescription", "ProtocolName", "PerformedProcedureStepDescription", "AcquisitionDeviceProcessingDescription",
)  # fmt: skip
"""Texts in which a view may be named; they must not contradict each other."""


@dataclass(frozen=True)
class _File:
    """A parsed data set, the bytes it was parsed from, the transfer syntax the file names, and what was odd so far."""

    dataset: Dataset
    data: bytes
    transfer_syntax: str | None
    oddities: frozenset[Oddity] = frozenset()


def read_dicom(data: bytes, reading: Reading) -> Radiograph:
    """Read a DICOM file of one grey image of 8 to 16 bits: MONOCHROME1 or 2, or grey in colour channels or a palette.

    Raises
    ------
    RadiographError
        If it is not that, or cannot be decoded; with the facts and identifiers of its tags, once they are parsed.
    """
    with quiet():
        file = _parse(data)
        facts, patient, study = _facts(file, reading), _patient(file.dataset), _study(file.dataset)
        try:
            radiograph = _read(file, facts, reading)
        except RadiographError as error:
            error.facts, error.patient, error.study = asdict(facts), patient, study
            raise
    return replace(radiograph, patient=patient, study=study)


def read_tags(data: bytes) -> Dataset:
    """Parse the tags of a DICOM file, within the same bounds; to be called, and its result read, under `quiet`.

    Raises
    ------
    RadiographError
        If the bytes do not parse.
    """
    return _parse(data).dataset


def _read(file: _File, facts: Facts, reading: Reading) -> Radiograph:
    dataset = file.dataset
    _check_kind(file)
    _check_wanted(dataset, facts, frontal_only=reading.frontal_only)
    _check_grey(dataset)
    check_size(facts.rows or 0, facts.columns or 0)
    aspect, odd = read_pixel_aspect(dataset)
    values = decode_pixels(dataset, _pixel_syntax(file), reduced=reading.reduced, aspect=aspect)
    voi = read_voi(dataset, little_endian=dataset.original_encoding[1] is not False) if values.grey_scale else None
    oddities = file.oddities | values.oddities | odd | _orientation_oddity(dataset, facts)
    facts = replace(facts, decode=DECODES[values.reduced_by], bits_stored=values.bits, oddities=join_oddities(oddities))
    return Radiograph(
        values.stored,
        values.pixels,
        values.valid,
        facts.photometric == "MONOCHROME1",
        facts,
        voi=voi,
        pixel_aspect=aspect,
    )


def _orientation_oddity(dataset: Dataset, facts: Facts) -> set[Oddity]:
    """Say whether rows or columns of a frontal view do not run as the standard's upright one: to the left, to the feet.

    Nothing is turned by it: viewers do not either, and it is copied from templates.
    """
    directions = texts(dataset, "PatientOrientation")
    upright = len(directions) != 2 or [one[:1] for one in directions] == ["L", "F"]
    known_frontal = facts.view_position is not None and is_frontal(facts.view_position)
    return {Oddity.PATIENT_ORIENTATION} if known_frontal and not upright else set()


def _parse(data: bytes) -> _File:
    """Parse the tags; deflated files are inflated first, within bounds."""
    if data.startswith(b"DICM"):  # pydicom looks for the mark after a preamble only
        data = data[4:]
    file = io.BytesIO(data)
    with decoder_errors():
        read_preamble(file, force=True)
        meta = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    syntax = _uid(text(meta, "TransferSyntaxUID"))
    if syntax == DeflatedExplicitVRLittleEndian:
        data = _EXPLICIT_META + inflate(data[file.tell() :])
    try:
        dataset = _read_tags(data)
    except RadiographError:
        dataset = None
    if (dataset is None or PIXEL_DATA not in dataset) and syntax not in _NOT_WALKED:
        walkable = without_unknown_elements(data)
        if walkable is not None:
            return _File(_read_tags(walkable), walkable, syntax, frozenset({Oddity.SKIPPED_ELEMENTS}))
    return _File(_read_tags(data) if dataset is None else dataset, data, syntax)


def _read_tags(data: bytes) -> Dataset:
    with decoder_errors():
        try:
            return read_partial(io.BytesIO(data), _past_pixels(), force=True)
        except struct.error:  # the header of an element is cut
            raise RadiographError(Reason.TRUNCATED, "The file ends before its pixel data does.") from None


def _past_pixels() -> Callable[[int, str | None, int], bool]:
    """Return a condition that stops reading after the pixel data: padding there would be read as endless elements."""
    seen = False

    def stop(tag: int, _vr: str | None, _length: int) -> bool:
        nonlocal seen
        past, seen = seen, seen or tag == PIXEL_DATA
        return past

    return stop


def _uid(value: str | None) -> str | None:
    is_uid = value is not None and len(value) <= 64 and not value.strip("0123456789.")
    return value or None if is_uid else None


def _pixel_syntax(file: _File) -> str:
    """Return the transfer syntax that the pixels are in; guessed from the tags' encoding where the file names none."""
    if file.transfer_syntax == DeflatedExplicitVRLittleEndian:
        return ExplicitVRLittleEndian
    if file.transfer_syntax is not None:
        return file.transfer_syntax
    implicit, little = file.dataset.original_encoding
    if not little:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


def _check_kind(file: _File) -> None:
    """Tell images from directories, from files without an image, and from files that were cut short."""
    dataset = file.dataset
    meta_class = text(dataset.file_meta, "MediaStorageSOPClassUID")
    if meta_class == MediaStorageDirectoryStorage or sequence(dataset, "DirectoryRecordSequence"):
        raise RadiographError(Reason.DICOMDIR, "The file is a DICOM directory.")
    if PIXEL_DATA in dataset:
        return
    if _cut_short(file):
        raise RadiographError(Reason.TRUNCATED, "The file ends before its pixel data does.")
    if len(dataset) == 0:
        raise RadiographError(Reason.CORRUPT, "The file has no DICOM tags.")
    raise RadiographError(Reason.NO_PIXEL_DATA, "The file has no pixel data.")


def _cut_short(file: _File) -> bool:
    """Say whether the file ends inside an element: pydicom drops it, or every element, without an error."""
    last = max(file.dataset.keys(), default=None)
    if last is None:
        return len(file.dataset.file_meta) > 0 or any(mark in file.data for mark in _PIXEL_DATA_MARKS)
    with decoder_errors():
        element = file.dataset.get_item(last)
    length = getattr(element, "length", _UNDEFINED)
    if length == _UNDEFINED:
        return any(mark in file.data for mark in _PIXEL_DATA_MARKS)
    end = element.value_tell + length  # type: ignore[attr-defined]
    rest = file.data[end:]
    return end > len(file.data) or 0 < len(rest) < 8 or rest.startswith(_PIXEL_DATA_MARKS)


def _check_wanted(dataset: Dataset, facts: Facts, *, frontal_only: bool) -> None:
    """Skip sound files that are not to be scored."""
    if (text(dataset, "Modality") or "").upper() in NO_RADIOGRAPHY:
        raise RadiographError(Reason.OTHER_MODALITY, "The image is no radiograph.")
    if (text(dataset, "PresentationIntentType") or "").upper() == "FOR PROCESSING":
        raise RadiographError(Reason.FOR_PROCESSING, "The image is a detector's raw data, FOR PROCESSING.")
    if (text(dataset, "BodyPartExamined") or "").upper().replace(" ", "") in NOT_CHEST:
        raise RadiographError(Reason.OTHER_BODY_PART, "The image is of another part of the body.")
    if frontal_only and not is_frontal(facts.view_position):
        raise RadiographError(Reason.LATERAL_VIEW, "The view is not frontal.")


def _check_grey(dataset: Dataset) -> None:
    if (integer(dataset, "NumberOfFrames") or 1) > 1:
        raise RadiographError(Reason.MULTI_FRAME, "The file has more than one frame.")
    if _photometric(dataset) not in (None, *_READ):
        raise RadiographError(Reason.NOT_GREYSCALE, "The image's photometric interpretation is not grey.")


def _photometric(dataset: Dataset) -> str | None:
    value = text(dataset, "PhotometricInterpretation")
    return value.upper() if value else None


def _facts(file: _File, reading: Reading) -> Facts:
    dataset = file.dataset
    view, source = _view(dataset, reading)
    sex = (text(dataset, "PatientSex") or "").upper()
    photometric = _photometric(dataset)
    shape = (text(dataset, "PresentationLUTShape") or "").upper()
    return Facts(
        view_position=view,
        view_source=source,
        photometric=photometric if photometric in PHOTOMETRICS else None,
        presentation_lut_shape=shape if shape in ("IDENTITY", "INVERSE") else None,
        transfer_syntax=file.transfer_syntax,
        bits_stored=integer(dataset, "BitsStored"),
        rows=integer(dataset, "Rows"),
        columns=integer(dataset, "Columns"),
        manufacturer=clean(text(dataset, "Manufacturer") or ""),
        device_model=clean(text(dataset, "ManufacturerModelName") or ""),
        sex=sex if sex in ("M", "F", "O") else None,
        age_band=age_band(text(dataset, "PatientAge")),
    )


def _view(dataset: Dataset, reading: Reading) -> tuple[str | None, str]:
    """Return the view and its source: tag, then metadata, then procedure text of the tables or the file."""
    told = read_view(reading.known_view)[0]
    texts = {view_of_procedure(text(dataset, keyword)) for keyword in PROCEDURE_TEXTS} - {None}
    return known_view(
        [
            (read_view(text(dataset, "ViewPosition"))[0], "tag"),
            (_view_of_code(dataset), "tag"),
            (told if reading.known_view_source == "metadata" else None, "metadata"),
            (told if reading.known_view_source == "procedure" else None, "procedure"),
            (texts.pop() if len(texts) == 1 else None, "procedure"),
        ]
    )


def _view_of_code(dataset: Dataset) -> str | None:
    code = sequence(dataset, "ViewCodeSequence")
    if code is None:
        return None
    return VIEW_CODES.get(text(code, "CodeValue") or "") or read_view(text(code, "CodeMeaning"))[0]


def _patient(dataset: Dataset) -> str | None:
    """Return PatientID, after its issuer where the file names one: two hospitals may give the same number."""
    patient, issuer = text(dataset, "PatientID"), text(dataset, "IssuerOfPatientID")
    return f"{issuer}|{patient}" if patient and issuer else patient


def _study(dataset: Dataset) -> str | None:
    return _uid(text(dataset, "StudyInstanceUID"))
