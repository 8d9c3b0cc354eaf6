"""The data contracts: classes, reason codes, the affine, and the Arrow schema of every table on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil
from typing import Any, Self

import pyarrow as pa

from cxrgaze_ray.schemas.orientation import UPRIGHT, turn_point, turn_point_back, upright_size

SCHEMA_VERSION = 2

CLASSES = ("normal", "heart_failure", "pneumonia")
"""Class order of every logit, probability and label index."""

HEIGHT, WIDTH = 640, 512
"""Model image in pixels; always height x width."""

SALIENCY_HEIGHT, SALIENCY_WIDTH = 320, 256
"""Grid of the stored 8-bit saliency map."""

RESEARCH_ONLY = "Research only, not for clinical use."


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
    Reason.OTHER_BODY_PART: "The tags name another part of the body than the chest. Correct them if they are wrong.",
    Reason.OTHER_MODALITY: "Another kind of imaging than radiography. Nothing is to be done.",
    Reason.NO_PIXEL_DATA: "A sound DICOM file without an image, such as a report. Nothing is to be done.",
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


@dataclass(frozen=True)
class Affine:
    """Where source pixels lie in the model image: ``model = upright * scale + offset``, pixel centres at +0.5.

    A source is turned upright first, where its file says that it is to be: see `orientation`.

    Attributes
    ----------
    scale_y, scale_x
        Model pixels per pixel of the upright source.
    offset_y, offset_x
        Where the upright source begins, in model pixels: the padding before it; below 0 where it was cropped.
    rows, columns
        Size of the source in pixels, as it is stored.
    orientation
        Exif's number of how the stored source is turned to stand upright; 1 if it is not.
    """

    scale_y: float
    scale_x: float
    offset_y: float
    offset_x: float
    rows: int
    columns: int
    orientation: int = UPRIGHT

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return the affine of a row's ``affine`` column; rows of before orientations have none."""
        return cls(**{**row, "orientation": row.get("orientation") or UPRIGHT})

    @property
    def upright(self) -> tuple[int, int]:
        """Rows and columns of the source as it stands upright."""
        return upright_size(self.orientation, self.rows, self.columns)

    def turned(self, orientation: int) -> Self:
        """Return the affine of a stored source, given that of the upright one."""
        rows, columns = upright_size(orientation, self.rows, self.columns)
        return replace(self, rows=rows, columns=columns, orientation=orientation)

    @property
    def content_origin(self) -> tuple[int, int]:
        """First row and column of model pixels whose centre lies on the source; below 0 where it was cropped."""
        return ceil(self.offset_y - 0.5), ceil(self.offset_x - 0.5)

    @property
    def content_size(self) -> tuple[int, int]:
        """Height and width of the whole picture in model pixels, without padding; cropped parts count."""
        (top, left), (rows, columns) = self.content_origin, self.upright
        bottom = ceil(self.offset_y + rows * self.scale_y - 0.5)
        return bottom - top, ceil(self.offset_x + columns * self.scale_x - 0.5) - left

    @property
    def shown(self) -> tuple[slice, slice]:
        """Rows and columns of the model image that show the source: neither padding nor cropped away."""
        (top, left), (height, width) = self.content_origin, self.content_size
        return slice(max(0, top), min(HEIGHT, top + height)), slice(max(0, left), min(WIDTH, left + width))

    @property
    def shown_content(self) -> tuple[slice, slice]:
        """The same pixels, as rows and columns of the whole picture."""
        (top, left), (rows, columns) = self.content_origin, self.shown
        return slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)

    def to_model(self, y: float, x: float) -> tuple[float, float]:
        """Map a point of the stored source to the model image."""
        y, x = turn_point(y, x, self.orientation, self.rows, self.columns)
        return y * self.scale_y + self.offset_y, x * self.scale_x + self.offset_x

    def to_source(self, y: float, x: float) -> tuple[float, float]:
        """Map a model image point back to the stored source."""
        y, x = (y - self.offset_y) / self.scale_y, (x - self.offset_x) / self.scale_x
        return turn_point_back(y, x, self.orientation, self.rows, self.columns)


AFFINE = pa.struct(
    [
        ("scale_y", pa.float64()),
        ("scale_x", pa.float64()),
        ("offset_y", pa.float64()),
        ("offset_x", pa.float64()),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("orientation", pa.int8()),
    ]
)

FACT_FIELDS: list[tuple[str, pa.DataType]] = [
    ("view_position", pa.string()),
    ("view_source", pa.string()),
    ("photometric", pa.string()),
    ("photometric_check", pa.string()),
    ("presentation_lut_shape", pa.string()),
    ("transfer_syntax", pa.string()),
    ("decode", pa.string()),
    ("bits_stored", pa.int32()),
    ("rows", pa.int32()),
    ("columns", pa.int32()),
    ("manufacturer", pa.string()),
    ("device_model", pa.string()),
    ("sex", pa.string()),
    ("age_band", pa.string()),
    ("oddities", pa.string()),
    ("intensity_p1", pa.float32()),
    ("intensity_p50", pa.float32()),
    ("intensity_p99", pa.float32()),
    ("intensity_mean", pa.float32()),
]
"""Facts of the input beside every decoded row; all nullable. Intensities are of the model image, in [0,1].

view_source: tag, metadata, procedure or unknown. photometric_check: what the picture says of the polarity that the tag
gives: agrees, disagrees or unsure. decode: the resolution that was decoded: full, 1/2, 1/4 or 1/8. oddities: words of
`Oddity` with commas, or null. rows and columns are of the stored pixels.
"""

ID_FIELDS: list[tuple[str, pa.DataType]] = [
    ("image_id", pa.string()),
    ("subject_id", pa.string()),
    ("study_id", pa.string()),
    ("repeated_id", pa.bool_()),
]
"""repeated_id: another file of the archive has the same image_id. Rows are flagged, never merged."""

FINDINGS = (
    "atelectasis", "cardiomegaly", "consolidation", "edema", "enlarged_cardiomediastinum", "fracture", "lung_lesion",
    "lung_opacity", "no_finding", "pleural_effusion", "pleural_other", "pneumonia", "pneumothorax", "support_devices",
)  # fmt: skip
"""CheXpert's labels, in the columns' order of MIMIC-CXR-JPG's table."""

_PLACE_FIELDS: list[tuple[str, pa.DataType]] = [
    *ID_FIELDS,
    ("uri", pa.string()),
    ("size_bytes", pa.int64()),
    ("etag", pa.string()),
    ("format", pa.string()),
    ("view_position", pa.string()),
    ("view_source", pa.string()),
]

MANIFEST = pa.schema(
    [
        *_PLACE_FIELDS,
        ("split", pa.string()),
        *[(f"finding_{name}", pa.int8()) for name in FINDINGS],
    ]
)
"""One row a file. Where there is no file to be read, size_bytes is null, and etag is the reason, or null if nothing
is there. format is dicom, jpeg, png or other; view_source is metadata, procedure or unknown. split is the archive's
own: train, validate or test. finding_*: CheXpert's label of the study: 1 present, 0 absent, -1 uncertain."""

PLAN = pa.schema([("shard", pa.int32()), ("position", pa.int32()), *_PLACE_FIELDS])
"""A manifest cut into shards: (shard, position) names a row for good."""

STORE_SHARD = pa.schema(
    [
        *ID_FIELDS,
        ("split", pa.string()),
        ("label", pa.int8()),
        ("image", pa.binary()),
        ("gaze", pa.binary()),
        ("gaze_peak", pa.float32()),
        ("affine", AFFINE),
        *FACT_FIELDS,
    ]
)
"""image: uint16 little-endian, C order, 640x512. gaze: the same, scaled so that its peak is 65535, or null;
gaze_peak: the density at the peak (the map sums to 1 over the model image). label: index into CLASSES, or null."""

REJECTS = pa.schema([*ID_FIELDS, ("status", pa.string()), ("reason_code", pa.string()), ("detail", pa.string())])
"""Inputs of an ingest that gave no shard row."""

RESULT = pa.schema(
    [
        ("shard", pa.int32()),
        ("position", pa.int32()),
        *ID_FIELDS,
        ("status", pa.string()),
        ("reason_code", pa.string()),
        ("detail", pa.string()),
        *[(f"p_{name}", pa.float32()) for name in CLASSES],
        ("prediction", pa.string()),
        ("logits", pa.list_(pa.float32())),
        ("saliency_png", pa.binary()),
        ("saliency_peak", pa.float32()),
        ("affine", AFFINE),
        *FACT_FIELDS,
        ("bundle_version", pa.string()),
        ("weights_sha256", pa.string()),
        ("profile", pa.string()),
        ("engine", pa.string()),
        ("scored_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""One row an input. saliency_png: 8 bit grey, scaled to its peak; saliency_peak: the density at the peak on the
model image. Never compute KL from the 8-bit map."""

SUMMARY = pa.schema([field for field in RESULT if field.name not in {"saliency_png", "logits", "affine"}])
"""Every result row without maps."""

STUDIES = pa.schema(
    [
        ("study_id", pa.string()),
        ("subject_id", pa.string()),
        ("images", pa.int32()),
        ("scored", pa.int32()),
        *[(f"p_{name}", pa.float32()) for name in CLASSES],
        ("prediction", pa.string()),
    ]
)
"""One row a study: probabilities are means over its scored images."""
