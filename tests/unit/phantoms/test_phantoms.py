"""Phantom archives: the same seed gives the same bytes, faults get their reason, and pictures show what they should."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import config

from cxrgaze_ray.archive.manifest import Manifest, fetch_listed, list_archive
from cxrgaze_ray.errors import RadiographError, UserError
from cxrgaze_ray.gaze.egd import read_egd
from cxrgaze_ray.phantoms import GAZE_FOLDER, Phantom, PhantomReport, draw, make_archive
from cxrgaze_ray.phantoms.faults import FAULTS
from cxrgaze_ray.phantoms.scanpath import RATE_HZ, look
from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.storage import LocalStore

HEIGHT = (200, 260)
NORMAL, FAILURE, PNEUMONIA = range(3)
Archive = tuple[Path, PhantomReport, Manifest]


def make(folder: Path, **arguments: Any) -> Archive:
    report = make_archive(LocalStore(str(folder)), height=HEIGHT, **arguments)
    return folder, report, list_archive(str(folder))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return make(tmp_path_factory.mktemp("phantoms"), images=20, seed=7, faults=1)


@cache
def phantom(label: int, seed: int) -> Phantom:
    return draw(np.random.default_rng([label, seed]), label, 320, 290)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ids(manifest: Manifest, name: str) -> set[str]:
    return set(manifest.table[name].to_pylist())


def outcome(decoder: Decoder, row: dict[str, Any]) -> str:
    try:
        decoder.decode(fetch_listed(row))
    except RadiographError as error:
        return error.reason
    return "decoded"


def test_the_same_seed_gives_the_same_bytes_of_every_file(archive: Archive, tmp_path: Path) -> None:
    folder, report, _ = archive
    again = make_archive(LocalStore(str(tmp_path)), images=20, seed=7, faults=1, height=HEIGHT)
    one, two = files(folder), files(tmp_path)
    assert sorted(one) == sorted(two)
    assert [name for name in one if one[name] != two[name]] == []
    assert again == report


def test_another_seed_gives_other_patients_and_images(archive: Archive, tmp_path: Path) -> None:
    _, _, other = make(tmp_path, images=4, seed=8, faults=1)
    for name in ("image_id", "subject_id", "study_id"):
        assert ids(archive[2], name).isdisjoint(ids(other, name)), name


def test_counts_are_those_of_the_archive(archive: Archive) -> None:
    folder, report, manifest = archive
    sound = manifest.table.to_pylist()
    planted = {fault.image_id for fault in report.planted}
    sound = [row for row in sound if row["image_id"] not in planted]
    assert report.counts["images"] == len(sound) == 20
    assert report.counts["faults"] == len(planted) == len(FAULTS)
    assert report.counts["patients"] == len({row["subject_id"] for row in sound})
    assert report.counts["studies"] == len({row["study_id"] for row in sound})
    assert sum(report.counts[name] for name in CLASSES) == 20
    assert min(report.counts[name] for name in CLASSES) >= 4
    assert manifest.layout == "mimic-cxr"
    assert manifest.counts["missing"] == 1
    assert manifest.counts["repeated_ids"] == 0
    assert json.loads((folder / "phantoms.json").read_text())["counts"] == report.counts


def test_every_planted_fault_gets_its_reason_and_all_else_decodes(archive: Archive) -> None:
    folder, report, manifest = archive
    planted = {one["path"]: one for one in json.loads((folder / "phantoms.json").read_text())["planted"]}
    assert {one["kind"] for one in planted.values()} == set(FAULTS)
    found = {}
    with Decoder(reading=Reading(frontal_only=True)) as decoder:
        for row in manifest.table.to_pylist():
            found[row["uri"].removeprefix(f"{folder}/")] = outcome(decoder, row)
    expected = {path: planted[path]["reason"] if path in planted else "decoded" for path in found}
    assert found == expected
    assert set(planted) <= set(found)
    assert len(found) == 20 + len(report.planted)


def test_planted_rows_are_listed_under_their_ids(archive: Archive) -> None:
    _, report, manifest = archive
    listed = {row["image_id"]: row["uri"] for row in manifest.table.to_pylist()}
    assert all(listed[one.image_id].endswith(one.path) for one in report.planted)


def sound_dicom(archive: Archive) -> list[Path]:
    folder, report, _ = archive
    planted = {one.path for one in report.planted}
    return [path for path in sorted(folder.rglob("*.dcm")) if str(path.relative_to(folder)) not in planted]


def test_dicom_files_are_valid_and_varied(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    seen: dict[str, set[object]] = {"photometric": set(), "bits": set(), "syntax": set(), "vendor": set()}
    uids = set()
    for path in sound_dicom(archive):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dataset = pydicom.dcmread(path)
            pixels = dataset.pixel_array
            str(dataset)  # converts, and so checks, every value
        assert pixels.shape == (dataset.Rows, dataset.Columns)
        assert HEIGHT[0] <= dataset.Rows <= HEIGHT[1]
        assert pixels.max() < 2**dataset.BitsStored
        assert dataset.PatientID == path.parts[-3].removeprefix("p")
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        uids.add(dataset.SOPInstanceUID)
        seen["photometric"].add(dataset.PhotometricInterpretation)
        seen["bits"].add(dataset.BitsStored)
        seen["syntax"].add(dataset.file_meta.TransferSyntaxUID)
        seen["vendor"].add((dataset.Manufacturer, dataset.ManufacturerModelName))
    assert len(uids) == len(sound_dicom(archive)) >= 10
    assert seen["photometric"] == {"MONOCHROME1", "MONOCHROME2"}
    assert len(seen["bits"]) >= 3
    assert len(seen["syntax"]) == 3
    assert len(seen["vendor"]) >= 3


def test_either_photometric_decodes_to_bright_bones(archive: Archive) -> None:
    edges: dict[str, list[bool]] = {}
    with Decoder() as decoder:
        for path in sound_dicom(archive):
            decoded = decoder.decode(path.read_bytes())
            height, width = decoded.affine.content_size
            picture = decoded.pixels[round(decoded.affine.offset_y) :, round(decoded.affine.offset_x) :]
            spine = picture[int(0.55 * height) : int(0.65 * height), int(0.47 * width) : int(0.53 * width)].mean()
            lung = picture[int(0.45 * height) : int(0.5 * height), int(0.22 * width) : int(0.28 * width)].mean()
            edges.setdefault(decoded.facts["photometric"], []).append(bool(spine > lung))
    assert {name: all(brighter) for name, brighter in edges.items()} == {"MONOCHROME1": True, "MONOCHROME2": True}


def test_gaze_tables_cover_every_sound_image(archive: Archive) -> None:
    folder, report, manifest = archive
    tables = read_egd(LocalStore(str(folder / GAZE_FOLDER)))
    sound = ids(manifest, "image_id") - {one.image_id for one in report.planted}
    assert tables.images_with_gaze == set(tables.studies) == sound
    assert tables.counts["gaze_rows_malformed_id"] == 5
    labels = [study.label for study in tables.studies.values()]
    assert {name: labels.count(index) for index, name in enumerate(CLASSES)} == {
        name: report.counts[name] for name in CLASSES
    }
    listed = {row["image_id"]: (row["subject_id"], row["study_id"]) for row in manifest.table.to_pylist()}
    assert all((study.subject_id, study.study_id) == listed[name] for name, study in tables.studies.items())


def test_an_archive_is_never_written_over(archive: Archive) -> None:
    before = files(archive[0])
    with pytest.raises(UserError, match="already"):
        make_archive(LocalStore(str(archive[0])), images=1, seed=9, height=HEIGHT)
    assert files(archive[0]) == before


def test_progress_ends_at_all(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    make(tmp_path, images=2, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("label", range(3))
def test_pictures_are_grey_between_0_and_1_and_sized_as_asked(label: int) -> None:
    for seed in range(4):
        image = phantom(label, seed).image
        assert image.shape == (320, 290)
        assert image.dtype == np.float32
        assert 0 <= image.min() < 0.05
        assert 0.9 < image.max() <= 1


def patch(one: Phantom, name: str) -> float:
    y, x = (round(value) for value in one.landmarks[name])
    return float(one.image[y - 6 : y + 7, x - 6 : x + 7].mean())


def test_lungs_are_darker_than_the_heart() -> None:
    for seed in range(8):
        one = phantom(NORMAL, seed)
        assert max(patch(one, "mid_left"), patch(one, "mid_right")) < patch(one, "heart") - 0.1


def test_heart_failure_widens_the_heart() -> None:
    ratios, shadows = ([[value(phantom(label, seed)) for seed in range(8)] for label in (NORMAL, FAILURE)]
                       for value in (lambda one: one.cardiothoracic_ratio, beside_the_heart))  # fmt: skip
    assert max(ratios[0]) <= 0.52 < 0.53 <= min(ratios[1])
    assert np.mean(shadows[1]) > np.mean(shadows[0]) + 0.1


def beside_the_heart(one: Phantom) -> float:
    """Return the brightness where only a wide heart reaches."""
    rows, columns = one.image.shape
    return float(one.image[int(0.60 * rows) : int(0.64 * rows), int(0.72 * columns) : int(0.75 * columns)].mean())


def test_pneumonia_brightens_its_zone() -> None:
    brighter = []
    for seed in range(8):
        one = phantom(PNEUMONIA, seed)
        y, x, _ = one.findings[0]
        mirrored = one.image.shape[1] - x
        here, there = (
            float(one.image[int(y) - 8 : int(y) + 8, int(at) - 8 : int(at) + 8].mean()) for at in (x, mirrored)
        )
        brighter.append(here - there)
    assert np.mean(brighter) > 0.08


def test_only_abnormal_pictures_have_findings() -> None:
    found = {label: {len(phantom(label, seed).findings) for seed in range(4)} for label in range(3)}
    assert found == {NORMAL: {0}, FAILURE: {4}, PNEUMONIA: {1}}


def near_findings(one: Phantom, y: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    """Return the share of places that lie on a finding."""
    distances = [np.hypot(y - at_y, x - at_x) / radius for at_y, at_x, radius in one.findings]
    return float((np.min(distances, axis=0) < 1).mean())


@pytest.mark.parametrize("label", [FAILURE, PNEUMONIA])
def test_the_reader_dwells_on_findings_more_than_chance(label: int) -> None:
    dwell, chance = [], []
    for seed in range(8):
        one = phantom(label, seed)
        samples = look(one, np.random.default_rng(seed)).samples
        dwell.append(near_findings(one, samples[:, 0], samples[:, 1]))
        rows, columns = one.image.shape
        chance.append(near_findings(one, *np.mgrid[:rows, :columns].astype(float)))
    assert np.mean(dwell) > 3 * np.mean(chance)
    assert min(dwell) > 0.2


@pytest.mark.parametrize("label", range(3))
def test_a_reading_is_a_few_seconds_of_fixations_and_some_blinks(label: int) -> None:
    for seed in range(6):
        path = look(phantom(label, seed), np.random.default_rng(seed))
        assert len(path.samples) == len(path.fixation)
        assert 1.5 < len(path.samples) / RATE_HZ < 11
        assert 0 < np.isnan(path.samples).any(axis=1).mean() < 0.1
        assert (np.diff(path.fixation) >= 0).all()
