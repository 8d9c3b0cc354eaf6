"""What became of an input, why it was not scored, and what was odd about it: the codes that rows carry."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Status(StrEnum):
    """What became of an input."""

    SCORED = "scored"
    SKIPPED = "skipped"
    FAILED = "failed"


class Reason(StrEnum):
    """Why an input was not scored. Describes the input only: an outage is never a reason."""

    LATERAL_VIEW = "lateral_view"
    FOR_PROCESSING = "for_processing"
    OTHER_BODY_PART = "other_body_part"
    OTHER_MODALITY = "other_modality"
    NO_PIXEL_DATA = "no_pixel_data"
    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    DICOMDIR = "dicomdir"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported_transfer_syntax"
    WRONG_TRANSFER_SYNTAX = "wrong_transfer_syntax"
    UNSUPPORTED_BITS = "unsupported_bits"
    MULTI_FRAME = "multi_frame"
    NOT_GREYSCALE = "not_greyscale"
    CONSTANT_IMAGE = "constant_image"
    TOO_LARGE = "too_large"
    DECODER_CRASH = "decoder_crash"
    DECODE_TIMEOUT = "decode_timeout"
    MISSING = "missing"
    CHANGED = "changed"
    INVALID_URI = "invalid_uri"
    UNREADABLE = "unreadable"
    LINK_OUTSIDE = "link_outside"
    NO_GAZE_IN_IMAGE = "no_gaze_in_image"


REASON_HELP: dict[Reason, str] = {
    Reason.LATERAL_VIEW: "Not a frontal view. --view all scores it too.",
    Reason.FOR_PROCESSING: "A detector's raw data. Score the image that was made for presentation.",
    Reason.OTHER_BODY_PART: "The tags name a body part other than the chest. Correct them if they are wrong.",
    Reason.OTHER_MODALITY: "Another kind of imaging than radiography. No action is needed.",
    Reason.NO_PIXEL_DATA: "A sound DICOM file without an image, such as a report. No action is needed.",
    Reason.EMPTY_FILE: "The file has no bytes. Copy it again.",
    Reason.NOT_AN_IMAGE: "Neither DICOM nor JPEG nor PNG, whatever its name says. Convert it, or move it elsewhere.",
    Reason.DICOMDIR: "An index of a DICOM medium. The files it names are listed on their own.",
    Reason.TRUNCATED: "The file ends too early. Copy it again from its source.",
    Reason.CORRUPT: "The file's contents contradict themselves. Copy it again from its source.",
    Reason.UNSUPPORTED_TRANSFER_SYNTAX: "No library here reads this compression. See `cxrgaze doctor`, or convert it.",
    Reason.WRONG_TRANSFER_SYNTAX: "The transfer syntax is missing, or not the pixels' own. Correct it or export again.",
    Reason.UNSUPPORTED_BITS: "A pixel of fewer bits than 8 or more than 16, as no radiograph has. Convert it.",
    Reason.MULTI_FRAME: "More than one frame. Export the radiograph on its own.",
    Reason.NOT_GREYSCALE: "The picture is coloured. Export it in grey, without annotations.",
    Reason.CONSTANT_IMAGE: "Nearly every pixel has one value, or is padding. Look at the image at its source.",
    Reason.TOO_LARGE: "More pixels or bytes than a radiograph has. Look at the file before you open it elsewhere.",
    Reason.DECODER_CRASH: "Decoding it ended the decoder's process. Look at the file before you open it elsewhere.",
    Reason.DECODE_TIMEOUT: "Decoding it took longer than a radiograph can. --retry-failed if the machine was slow.",
    Reason.MISSING: "The file is listed, and not there. Put it there and plan a new run: --new.",
    Reason.CHANGED: "The file is not the one that was listed when the run was planned. Plan a new run: --new.",
    Reason.INVALID_URI: "The list names a place that is neither a path nor s3://. Correct the list.",
    Reason.UNREADABLE: "Its mode or storage class keeps the file closed. Open it up and plan a new run: --new.",
    Reason.LINK_OUTSIDE: "A link that leads out of the archive. --follow-links follows it.",
    Reason.NO_GAZE_IN_IMAGE: "All gaze lies off the image, or on one of another size. Compare the gaze tables' ids.",
}
"""What a reason means to the person who looks it up, and what to do about it."""

SKIPS = frozenset(
    {
        Reason.LATERAL_VIEW, Reason.FOR_PROCESSING, Reason.OTHER_BODY_PART, Reason.OTHER_MODALITY, Reason.NO_PIXEL_DATA,
    }
)  # fmt: skip
"""Reasons that say "a sound file, but not one we score"; every other reason is a failure."""


class Oddity(StrEnum):
    """What was odd about an input that could be read all the same; a row may have several."""

    BITS = "bits"
    SIGN = "sign"
    COMPONENTS = "components"
    PADDING_OUT_OF_RANGE = "padding_out_of_range"
    PIXEL_ASPECT = "pixel_aspect"
    PIXEL_ASPECT_UNCLEAR = "pixel_aspect_unclear"
    TURNED = "turned"
    PATIENT_ORIENTATION = "patient_orientation"
    TINT = "tint"
    SKIPPED_ELEMENTS = "skipped_elements"


ODDITY_HELP: dict[Oddity, str] = {
    Oddity.BITS: "BitsStored contradicts the compressed image or the values. The reading that is a picture was taken.",
    Oddity.SIGN: "PixelRepresentation is not the compressed image's. The reading that is a picture was taken.",
    Oddity.COMPONENTS: "SamplesPerPixel is not what the compressed image has. What it has was taken.",
    Oddity.PADDING_OUT_OF_RANGE: "A padding value that no stored pixel can have. It was left out.",
    Oddity.PIXEL_ASPECT: "The pixels are not square. Every profile but released-v1 keeps the anatomy's shape.",
    Oddity.PIXEL_ASPECT_UNCLEAR: "The tags on the pixels' shape contradict each other or can't be. Square was assumed.",
    Oddity.TURNED: "The file's Exif orientation turns or mirrors the picture. It was turned; the affine says how.",
    Oddity.PATIENT_ORIENTATION: "PatientOrientation says that the frontal view is turned. It was left as it is.",
    Oddity.TINT: "Channels differ by more than the eye misses, and less than drawn colour. Look at it.",
    Oddity.SKIPPED_ELEMENTS: "An element with a VR that does not exist was skipped to reach the pixels.",
}
"""What an oddity means, and what was done about it."""


def join_oddities(oddities: Iterable[Oddity]) -> str | None:
    """Return oddities as a row has them: each once, in the order of `Oddity`, with commas; None if there is none."""
    found = set(oddities)
    return ",".join(one for one in Oddity if one in found) or None


def split_oddities(text: str | None) -> list[Oddity]:
    """Return the oddities of a row's column; none of null."""
    return [Oddity(word) for word in (text or "").split(",") if word]


def status_of(reason: str | None) -> Status:
    """Return the status that a reason code stands for; no reason means scored."""
    if reason is None:
        return Status.SCORED
    return Status.SKIPPED if Reason(reason) in SKIPS else Status.FAILED
