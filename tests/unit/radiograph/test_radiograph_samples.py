"""Every DICOM file of pydicom and pydicom-data: an image, or the reason that its tags call for."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path

import pytest

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.reading import read_radiograph

FOLDERS = [Path(str(files("data_store"))) / "data", Path(str(files("pydicom"))) / "data" / "test_files"]
NO_DICOM = (".txt", ".icc", ".json", ".dump", ".gz", ".py", ".pyc")

EXPECTED = [
    ("RG1_*", "image"),  # CR of a chest
    ("RG3_*", "other_body_part"),  # CR of a hand
    ("dicomdirtests/*/CR?/*", "other_body_part"),  # CR of a knee, a spine
    ("[mv]lut_*", "image"),  # grey, Modality OT: no tag says what it is
    ("image_dfl*", "image"),
    ("JPEGLSNearLossless_*", "image"),
    ("emri_small_jpeg_2k_lossless_too_short*", "truncated"),
    ("rtplan_truncated*", "truncated"),
    ("693_*", "other_modality"),  # CT
    ("*CT_*", "other_modality"),
    ("MR*", "other_modality"),
    ("emri_*", "other_modality"),
    ("US1_*", "other_modality"),
    ("OBXXXX1A*", "other_modality"),  # ultrasound
    ("gdcm-US-*", "other_modality"),
    ("color*", "other_modality"),  # ultrasound
    ("examples_*", "other_modality"),  # ultrasound and MR
    ("liver*", "other_modality"),  # segmentation
    ("rtdose*", "other_modality"),
    ("badVR*", "other_modality"),  # dose
    ("SC_*2frame*", "multi_frame"),
    ("SC_*32bit*", "unsupported_bits"),
    ("SC_jpeg_no_color_transform*", "image"),  # grey, red and green and blue as they are, and no marker that says so
    ("SC_rgb_jpeg.dcm", "image"),
    ("SC_rgb_jpeg_dcmd*", "image"),
    ("SC_rgb_jpeg_app14_dcmd*", "image"),
    ("SC_*", "not_greyscale"),
    ("OT-PAL-8-face*", "not_greyscale"),  # palette
    ("GDCMJ2K_TextGBR*", "not_greyscale"),
    ("*rtplan*", "no_pixel_data"),
    ("*rtstruct*", "no_pixel_data"),
    ("*reportsi*", "no_pixel_data"),
    ("*SR.dcm", "no_pixel_data"),
    ("waveform*", "no_pixel_data"),
    ("*DICOMDIR*", "dicomdir"),
    ("no_meta.dcm", "not_an_image"),  # no preamble, and a first group that no image starts with
]


def outcome(data: bytes) -> str:
    try:
        read_radiograph(data)
    except RadiographError as error:
        return str(error.reason)
    return "image"


def samples() -> list[tuple[str, Path]]:
    return [
        (path.relative_to(folder).as_posix(), path)
        for folder in FOLDERS
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in NO_DICOM and path.name != "README"
    ]


def test_every_sample_has_an_outcome_and_the_one_its_tags_call_for() -> None:
    found = {name: outcome(path.read_bytes()) for name, path in samples()}
    wrong = {}
    for name, reason in found.items():
        expected = next((reason for pattern, reason in EXPECTED if fnmatch(name, pattern)), None)
        if expected is not None and expected != reason:
            wrong[name] = (reason, expected)
    assert not wrong
    counts = Counter(found.values())
    assert sum(counts.values()) > 150
    assert {"corrupt", "truncated", "dicomdir", "no_pixel_data", "multi_frame"} <= counts.keys()


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "RG1_UNCI.dcm"])
def test_the_chest_among_them_is_shown_as_its_tag_says(name: str) -> None:
    radiograph = read_radiograph((FOLDERS[0] / name).read_bytes())
    assert radiograph.inverted
    assert radiograph.facts.photometric_check == "agrees"
