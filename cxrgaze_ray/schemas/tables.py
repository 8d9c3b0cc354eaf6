"""The Arrow schema of every table on disk, and the classes that name its columns."""

from __future__ import annotations

import pyarrow as pa

from cxrgaze_ray.schemas.affine import AFFINE

SCHEMA_VERSION = 2

CLASSES = ("normal", "heart_failure", "pneumonia")
"""Class order of every logit, probability and label index."""

SALIENCY_HEIGHT, SALIENCY_WIDTH = 320, 256
"""Grid of the stored 8-bit saliency map."""

NOT_STATED = "not stated"
"""How the absence of a fact is called wherever facts are counted."""

RESEARCH_ONLY = "Research only, not for clinical use."

CAM_MEANING = "Grad-CAM of DenseNet's own head: which pixels moved its arg-max logit; not where a reader would look."
"""Said wherever such a map is shown: people take any warm patch for the predicted gaze."""

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

READERS = pa.list_(pa.struct([("looks", pa.binary()), ("gaze", pa.binary())]))
"""An entry a reading. looks: records of y and x (uint16) and weight (float32), little-endian, on the model image, in
order; see `gaze.heatmap.LOOK`. gaze: the reading's own map, as a shard's; null unless the image has several."""

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
        ("readers", READERS),
    ]
)
"""image: uint16 little-endian, C order, 640x512. gaze: the same, scaled so that its peak is 65535, or null;
gaze_peak: the density at the peak (the map sums to 1 over the model image). label: index into CLASSES, or null.
readers: null without gaze, and missing in stores of before readers were kept apart."""

REJECTS = pa.schema([*ID_FIELDS, ("status", pa.string()), ("reason_code", pa.string()), ("detail", pa.string())])
"""Inputs of an ingest that gave no shard row."""

ANSWERS: dict[str, tuple[str, ...]] = {
    "classes": (*(f"p_{name}" for name in CLASSES), "prediction", "logits"),
    "saliency": ("saliency_png", "saliency_peak"),
}
"""Columns of `RESULT` that hold a model's answers, by what it predicts; null in every row if it does not."""

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

CAM_FIELDS: list[tuple[str, pa.DataType]] = [("cam_png", pa.binary()), ("cam_target", pa.string())]
"""Beside every scored row of a run that asked for Grad-CAM. cam_png: 8 bit grey, on the grid of saliency_png, scaled to
its peak. cam_target: the class that it explains, DenseNet's own arg-max, which need not be the prediction."""

CAM_RESULT = pa.schema([*RESULT, *CAM_FIELDS])
"""One row an input of such a run."""

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
