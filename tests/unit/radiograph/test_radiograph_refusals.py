"""Files that are not scored: each says why, and says nothing of the patient."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.reading import Reading, read_radiograph
from cxrgaze_ray.schemas import Reason
from tests.awkward_files import without_syntax
from tests.dicom_files import (
    CANARY,
    dicom_bytes,
    dicom_dataset,
    gradient,
    make_dicom,
    make_encapsulated,
    picture,
)

MPEG2 = "1.2.840.10008.1.2.4.100"
SMPTE = "1.2.840.10008.1.2.7.1"
JPIP = "1.2.840.10008.1.2.4.94"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
GREY = gradient(bits=8).astype(np.uint8)
COLOUR = np.stack([GREY, GREY.T.repeat(2, 0)[:48, :40], 255 - GREY], axis=2)


def colour_dicom() -> bytes:
    return make_dicom(
        COLOUR, Rows=48, Columns=40, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
    )


def deflate_bomb() -> bytes:
    whole = make_dicom(gradient(), DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + struct.unpack_from("<I", whole, 140)[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return whole[:start] + b"".join([packer.compress(bytes(2**20)) for _ in range(200)]) + packer.flush()


def dicomdir() -> bytes:
    dataset = dicom_dataset(gradient(), PixelData=None)
    dataset.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    dataset.SOPClassUID = MediaStorageDirectoryStorage
    record = Dataset()
    record.PatientName = CANARY
    dataset.DirectoryRecordSequence = [record]
    return dicom_bytes(dataset)


def big_codestream() -> bytes:
    """A JPEG 2000 frame whose tags are modest and whose own header asks for gigabytes."""
    data = bytearray(make_dicom(gradient(), JPEG2000Lossless))
    size = data.index(b"\xff\x4f\xff\x51") + 8
    data[size : size + 8] = struct.pack(">II", 60000, 30000)
    return bytes(data)


def png_header(rows: int, columns: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 900) + b"IDAT" + bytes(400)


def jpeg_header(rows: int, columns: int) -> bytes:
    data = bytearray(picture(GREY, "JPEG"))
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", rows, columns)
    return bytes(data)


def frame_of(data: bytes) -> bytes:
    start = data.index(b"\xff\x4f\xff\x51")
    return data[start : data.rindex(b"\xff\xd9") + 2]


def animated_png() -> bytes:
    file = io.BytesIO()
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(file, format="PNG", save_all=True, append_images=frames[1:])
    return file.getvalue()


CASES: dict[str, tuple[Reason, Callable[[], bytes]]] = {
    "empty": (Reason.EMPTY_FILE, lambda: b""),
    "text": (Reason.NOT_AN_IMAGE, lambda: b"No image today.\n" * 20),
    "PDF": (Reason.NOT_AN_IMAGE, lambda: b"%PDF-1.7\n" + bytes(500)),
    "zeros": (Reason.NOT_AN_IMAGE, lambda: bytes(4096)),
    "truncated native": (Reason.TRUNCATED, lambda: make_dicom(gradient())[:-100]),
    "cut after its tags": (Reason.TRUNCATED, lambda: make_dicom(gradient())[: -gradient().nbytes - 4]),
    "short pixel data": (Reason.TRUNCATED, lambda: make_dicom(gradient(), Rows=49)),
    "truncated implicit": (Reason.TRUNCATED, lambda: make_dicom(gradient(), ImplicitVRLittleEndian)[:-100]),
    "truncated deflated": (Reason.TRUNCATED, lambda: make_dicom(gradient(), DeflatedExplicitVRLittleEndian)[:-100]),
    "truncated JPEG 2000": (Reason.TRUNCATED, lambda: make_dicom(gradient(), JPEG2000Lossless)[:-600]),
    "truncated JPEG 2000 in a whole file": (
        Reason.TRUNCATED,
        lambda: make_encapsulated(frame_of(make_dicom(GREY, JPEG2000Lossless))[:-400], JPEG2000Lossless, 48, 40),
    ),
    "truncated JPEG in a whole file": (
        Reason.TRUNCATED,
        lambda: make_encapsulated(picture(GREY, "JPEG", quality=95)[:-300], JPEGBaseline8Bit, 48, 40),
    ),
    "truncated RLE": (Reason.TRUNCATED, lambda: make_dicom(gradient(), RLELossless)[:-600]),
    "truncated JPEG": (Reason.TRUNCATED, lambda: picture(GREY, "JPEG", quality=95)[:-300]),
    "truncated PNG": (Reason.TRUNCATED, lambda: picture(GREY, "PNG")[:-300]),
    "JPEG of a header only": (Reason.CORRUPT, lambda: b"\xff\xd8\xff\xe0" + bytes(50)),
    "garbage in JPEG 2000": (
        Reason.CORRUPT,
        lambda: make_encapsulated(b"\x01" * 500, JPEG2000Lossless, 48, 40),
    ),
    "garbage in JPEG": (Reason.CORRUPT, lambda: make_encapsulated(b"\x01" * 500, JPEGBaseline8Bit, 48, 40)),
    "frame of another size": (
        Reason.CORRUPT,
        lambda: make_encapsulated(picture(GREY, "JPEG"), JPEGBaseline8Bit, 24, 40),
    ),
    "no rows": (Reason.CORRUPT, lambda: make_dicom(gradient(), Rows=0)),
    "rows missing": (Reason.CORRUPT, lambda: make_dicom(gradient(), Rows=None)),
    "32 bits": (Reason.UNSUPPORTED_BITS, lambda: make_dicom(gradient(), BitsAllocated=32)),
    "rescale to infinity": (Reason.CORRUPT, lambda: make_dicom(gradient(), RescaleSlope="1e39")),
    "RGB JPEG": (Reason.NOT_GREYSCALE, lambda: picture(COLOUR, "JPEG")),
    "RGB PNG": (Reason.NOT_GREYSCALE, lambda: picture(COLOUR, "PNG")),
    "colour DICOM": (Reason.NOT_GREYSCALE, colour_dicom),
    "palette DICOM without a palette": (
        Reason.CORRUPT,
        lambda: make_dicom(GREY, PhotometricInterpretation="PALETTE COLOR"),
    ),
    "colour space that is not read": (
        Reason.NOT_GREYSCALE,
        lambda: make_dicom(GREY, PhotometricInterpretation="CMYK", SamplesPerPixel=4),
    ),
    "three channels of one": (
        Reason.CORRUPT,
        lambda: make_dicom(GREY, PhotometricInterpretation="RGB"),
    ),
    "compressed pixels without a transfer syntax": (
        Reason.WRONG_TRANSFER_SYNTAX,
        lambda: without_syntax(make_dicom(GREY, JPEG2000Lossless)),
    ),
    "multi-frame": (
        Reason.MULTI_FRAME,
        lambda: make_dicom(GREY, NumberOfFrames=3),
    ),
    "animated PNG": (Reason.MULTI_FRAME, animated_png),
    "raw": (Reason.FOR_PROCESSING, lambda: make_dicom(gradient(), PresentationIntentType="FOR PROCESSING")),
    "hand": (Reason.OTHER_BODY_PART, lambda: make_dicom(gradient(), BodyPartExamined="Hand ")),
    "CT": (Reason.OTHER_MODALITY, lambda: make_dicom(gradient(), Modality="CT")),
    "no pixel data": (Reason.NO_PIXEL_DATA, lambda: make_dicom(gradient(), PixelData=None)),
    "DICOMDIR": (Reason.DICOMDIR, dicomdir),
    "MPEG2": (Reason.UNSUPPORTED_TRANSFER_SYNTAX, lambda: make_encapsulated(b"\0" * 64, MPEG2, 48, 40)),
    "JPIP": (Reason.UNSUPPORTED_TRANSFER_SYNTAX, lambda: make_encapsulated(b"\0" * 64, JPIP, 48, 40)),
    "SMPTE ST 2110": (Reason.UNSUPPORTED_TRANSFER_SYNTAX, lambda: make_encapsulated(b"\0" * 64, SMPTE, 48, 40)),
    "garbage in JPEG Lossless": (Reason.CORRUPT, lambda: make_encapsulated(b"\0" * 64, JPEG_LOSSLESS, 48, 40)),
    "garbage in RLE": (Reason.CORRUPT, lambda: make_encapsulated(b"\x09" * 500, RLELossless, 48, 40)),
    "claims 60000x30000": (Reason.TOO_LARGE, lambda: make_dicom(gradient(), Rows=60000, Columns=30000)),
    "RLE that claims 60000x30000": (
        Reason.TOO_LARGE,
        lambda: make_encapsulated(bytes(64), RLELossless, 60000, 30000),
    ),
    "codestream that claims 60000x30000": (Reason.TOO_LARGE, big_codestream),
    "PNG that claims 60000x30000": (Reason.TOO_LARGE, lambda: png_header(60000, 30000)),
    "PNG that claims 10000x10000": (Reason.TOO_LARGE, lambda: png_header(10000, 10000)),
    "JPEG that claims 60000x30000": (Reason.TOO_LARGE, lambda: jpeg_header(60000, 30000)),
    "JPEG that claims it inside DICOM": (
        Reason.TOO_LARGE,
        lambda: make_encapsulated(jpeg_header(60000, 30000), JPEGBaseline8Bit, 48, 40),
    ),
    "deflate bomb": (Reason.TOO_LARGE, deflate_bomb),
    "lateral": (Reason.LATERAL_VIEW, lambda: make_dicom(gradient(), ViewPosition="LL")),
    "lateral without pixels": (Reason.LATERAL_VIEW, lambda: make_dicom(gradient(), ViewPosition="RL", Rows=9999)),
}


@pytest.mark.parametrize("name", CASES)
def test_reason(name: str) -> None:
    reason, make = CASES[name]
    with pytest.raises(RadiographError) as caught:
        read_radiograph(make(), Reading(frontal_only=True))
    assert caught.value.reason == reason
    assert CANARY not in _everything(caught.value)


def test_every_reason_that_reading_can_give_is_given() -> None:
    elsewhere = {
        "constant_image",
        "decoder_crash",
        "decode_timeout",
        "missing",
        "changed",
        "no_gaze_in_image",
        "invalid_uri",
        "unreadable",
        "link_outside",
    }
    assert {reason for reason, _ in CASES.values()} == set(Reason) - {Reason(name) for name in elsewhere}


def _everything(error: BaseException | None) -> str:
    """All that a log of the error with its causes could hold; its identifiers are for keyed hashes, and no log's."""
    text = ""
    while error is not None:
        text += f"{error!r} {error.args} { {k: v for k, v in vars(error).items() if k not in ('patient', 'study')} }"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless])
def test_a_file_cut_anywhere_is_refused_with_a_reason(syntax: str) -> None:
    whole = make_dicom(gradient(32, 32), syntax)
    pixels = whole.rindex(b"\xe0\x7f\x10\x00")
    for length in (
        *range(1, pixels, 3),
        *range(pixels, len(whole) - 8, 7),
    ):  # the last 8 bytes may be a delimiter that nobody needs
        with pytest.raises(RadiographError) as caught:
            read_radiograph(whole[:length])
        if length > pixels:
            assert caught.value.reason == Reason.TRUNCATED, length


FLIPPED = {
    "explicit": lambda: make_dicom(gradient(), ExplicitVRLittleEndian, RescaleSlope="1", PixelPaddingValue=0),
    "implicit": lambda: make_dicom(gradient(), ImplicitVRLittleEndian, RescaleSlope="1", PixelPaddingValue=0),
    "RLE": lambda: make_dicom(gradient(), RLELossless),
    "JPEG 2000": lambda: make_dicom(gradient(), JPEG2000Lossless),
    "JPEG": lambda: picture(GREY, "JPEG"),
    "PNG": lambda: picture(GREY, "PNG"),
}


@pytest.mark.parametrize("name", FLIPPED)
def test_flipped_bytes_give_an_image_or_a_reason(name: str) -> None:
    rng = np.random.default_rng(5)
    whole = np.frombuffer(FLIPPED[name](), np.uint8)
    errors = []
    for _ in range(200):
        data = whole.copy()
        data[rng.integers(0, min(data.size, 900), 4)] = rng.integers(0, 256, 4)
        try:
            assert read_radiograph(data.tobytes()).pixels.ndim == 2
        except RadiographError as error:
            errors.append(_everything(error))
    assert errors
    assert CANARY not in "".join(errors)


def test_what_the_tags_said_is_on_the_refusal() -> None:
    data = make_dicom(
        gradient(),
        ViewPosition="LL",
        PatientID="P1",
        IssuerOfPatientID="North",
        StudyInstanceUID="1.2.3",
        PatientSex="F",
    )
    with pytest.raises(RadiographError) as caught:
        read_radiograph(data, Reading(frontal_only=True))
    assert (caught.value.patient, caught.value.study) == ("North|P1", "1.2.3")
    facts = caught.value.facts
    assert (facts["view_position"], facts["view_source"], facts["sex"], facts["rows"]) == ("LL", "tag", "F", 48)


def test_a_picture_that_is_refused_has_its_size_on_the_refusal() -> None:
    with pytest.raises(RadiographError) as caught:
        read_radiograph(picture(COLOUR, "PNG"))
    assert (caught.value.facts["rows"], caught.value.facts["columns"]) == (48, 40)
    with pytest.raises(RadiographError) as caught:
        read_radiograph(
            picture(GREY, "PNG"), Reading(frontal_only=True, known_view="LATERAL", known_view_source="metadata")
        )
    assert (caught.value.reason, caught.value.facts["view_source"]) == (Reason.LATERAL_VIEW, "metadata")


def test_facts_hold_nothing_of_the_patient() -> None:
    radiograph = read_radiograph(make_dicom(gradient()))
    assert CANARY not in str(asdict(radiograph.facts))


def test_reading_prints_and_logs_nothing(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    read_radiograph(make_dicom(gradient(), PatientAge=CANARY, StudyDate=CANARY, ViewPosition=CANARY))
    for name in CASES:
        with pytest.raises(RadiographError):
            read_radiograph(CASES[name][1](), Reading(frontal_only=True))
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
