"""Profiles: what each makes of phantom files, where it puts their pixels, and who refuses images of another one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.errors import BundleError, ConfigError, RadiographError, UserError
from cxrgaze_ray.gaze.heatmap import gaze_map
from cxrgaze_ray.gaze.saliency import to_source
from cxrgaze_ray.models.bundle import make_bundle, write_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.radiograph.preprocess import (
    DEFAULT_PROFILE,
    check_reducible,
    fit,
    prepare,
    profile_names,
    profile_sha256,
)
from cxrgaze_ray.radiograph.preprocess.geometry import stride
from cxrgaze_ray.radiograph.preprocess.profiles import (
    Equalised,
    Percentiles,
    Profile,
    Strided,
    ViewerWindow,
    find_profile,
)
from cxrgaze_ray.radiograph.reading import Facts, LookUpTable, Radiograph, Window, read_radiograph
from cxrgaze_ray.schemas import HEIGHT, WIDTH, Affine, Reason
from cxrgaze_ray.storage import LocalStore
from tests.dicom_files import LOSSLESS, make_lossless
from tests.golden import CASES, chest, describe, outcome, written

UPSAMPLED = "smaller than the model image"
"""Bilinear: off by one level between processors with and without AVX2, where area resampling is the same."""


def radiograph(pixels: NDArray[Any], *, inverted: bool = False, **facts: Any) -> Radiograph:
    return Radiograph(pixels, pixels, None, inverted, Facts(**facts))


def test_the_profiles_and_their_hashes() -> None:
    # if this fails, every bundle out there is refused: give the changed profile a new name instead
    assert {name: profile_sha256(name) for name in profile_names()} == {
        "cxrgaze-v1": "6d834716e30aca61ecf3797450f1baf47dbe0fd334c99fd6eb33f8e687973c13",
        "released-v1": "267cb82a5a49d940786fc08d8470535f5dafbcbe7072106f63e9123420be5765",
        "mimic-jpg-v1": "d51a448ff36f68c66399430b970fe9ec8f84c6f8c7969951fb136ad74c7eb600",
        "voi-v1": "f3d7aa227c649953041e9567cdae145aa83d9c4a583fb7a128e04890f0245bfd",
    }


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_says_what_it_does_and_where_it_is_from(name: str) -> None:
    text = find_profile(name).__doc__ or ""
    assert text.startswith(f"``{name}``")
    assert "Source: " in text


@pytest.mark.parametrize(
    ("profile", "changes"),
    [
        (Percentiles(name="a"), {"name": "b", "clip_low": 0.01, "clip_high": 1.0, "height": 320, "revision": 2}),
        (Strided(name="a"), {"name": "b", "step": 4, "width": 256, "revision": 2}),
        (Equalised(name="a"), {"name": "b", "height": 320, "revision": 2}),
        (ViewerWindow(name="a"), {"name": "b", "clip_low": 0.01, "revision": 2}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_setting_of_a_profile_is_in_its_hash(profile: Profile, changes: dict[str, Any]) -> None:
    changed = {replace(profile, **{name: value}).sha256() for name, value in changes.items()}
    assert len(changed - {profile.sha256()}) == len(changes)
    assert replace(profile).sha256() == profile.sha256()


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no profile other\. Profiles are cxrgaze-v1, released-v1"):
        profile_sha256("other")
    with pytest.raises(ConfigError, match="no profile other"):
        prepare(radiograph(chest(50, 40, 8)), "other")


@pytest.mark.parametrize("case", CASES)
def test_files_give_the_golden_figures(case: str) -> None:
    data = CASES[case]()
    for name, expected in written()[case].items():
        found = outcome(data, name)
        np.testing.assert_allclose(found["pixels"], expected["pixels"], atol=1, err_msg=name)
        if platform.machine() == "x86_64" and case != UPSAMPLED:
            assert found["sha256"] == expected["sha256"], name


def test_the_golden_figures_cover_every_profile() -> None:
    assert {case: tuple(figures) for case, figures in written().items()} == dict.fromkeys(CASES, profile_names())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instruction sets are those of x86-64")
def test_the_processor_does_not_matter() -> None:
    """An old processor gives the same digests: cv2 and NumPy told to leave out what is newer than SSE3."""
    code = (
        "from tests.golden import *\n"
        "cases = ('12 bit', '15 bit MONOCHROME1', 'rescale', 'landscape')\n"
        "assert all(outcome(CASES[c](), p) == figures for c in cases for p, figures in written()[c].items())"
    )
    newer = "SSSE3,SSE4_1,SSE4_2,POPCNT,AVX,FP16,FMA3,AVX2,AVX_512F,AVX512_COMMON,AVX512_SKX"
    old = {"OPENCV_CPU_DISABLE": newer, "OPENCV_IPP": "disabled", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"}
    root = Path(__file__).parents[3]
    environment = {**os.environ, **old, "PYTHONPATH": str(root), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(("bits", "photometric"), [(12, "MONOCHROME2"), (15, "MONOCHROME1")])
def test_the_encoding_of_a_file_does_not_matter(syntax: str, bits: int, photometric: str) -> None:
    rows, columns, case = (800, 640, "12 bit") if bits == 12 else (750, 700, "15 bit MONOCHROME1")
    data = make_lossless(chest(rows, columns, bits), syntax, bits, PhotometricInterpretation=photometric)
    source, plain = read_radiograph(data), read_radiograph(CASES[case]())
    assert np.array_equal(source.stored, plain.stored)
    assert (source.facts.transfer_syntax, source.inverted, source.voi) == (syntax, plain.inverted, None)
    for name in profile_names():
        assert np.array_equal(prepare(source, name).pixels, prepare(plain, name).pixels), name


def test_each_profile_makes_another_picture() -> None:
    source = read_radiograph(CASES["window"]())
    digests = {describe(prepare(source, name))["sha256"] for name in profile_names()}
    assert len(digests) == len(profile_names())


# released-v1


def released(stored: NDArray[Any]) -> tuple[NDArray[np.float64], int, int]:
    """Return the picture as the released code makes it, whole canvas and all, and the canvas's padding."""
    above, left = (3200 - stored.shape[0]) // 2, (2560 - stored.shape[1]) // 2
    canvas = np.zeros((3200, 2560))
    canvas[above : above + stored.shape[0], left : left + stored.shape[1]] = stored
    small = canvas[::5, ::5]
    return small / small.max(), above, left


@pytest.mark.parametrize(("rows", "columns"), [(3200, 2560), (3056, 2544), (2021, 2022), (1023, 998), (7, 2559)])
def test_released_takes_every_fifth_pixel_of_the_padded_picture(rows: int, columns: int) -> None:
    stored = np.random.default_rng(rows).integers(0, 4096, (rows, columns)).astype(np.uint16)
    image = prepare(radiograph(stored), "released-v1")
    expected, above, left = released(stored)
    assert np.array_equal(image.pixels, np.rint(expected * 65535).astype(np.uint16))
    assert (image.affine.offset_y, image.affine.offset_x) == pytest.approx((above / 5 + 0.4, left / 5 + 0.4))


@pytest.mark.parametrize(("rows", "columns"), [(3056, 2544), (1001, 1500), (3203, 2563)])
def test_released_shows_a_bright_pixel_where_the_affine_says(rows: int, columns: int) -> None:
    affine = stride(rows, columns, 5)
    for y, x in ((3, 4), (317, 200), (600, 508)):
        centre = affine.to_source(y + 0.5, x + 0.5)
        row, column = (int(place) for place in centre)
        if not (0 <= row < rows and 0 <= column < columns):
            continue
        assert centre == pytest.approx((row + 0.5, column + 0.5), abs=1e-6)  # one source pixel, met in its middle
        stored = np.zeros((rows, columns), np.uint16)
        stored[row, column] = 1000
        image = prepare(radiograph(stored), "released-v1")
        assert image.affine == affine
        assert [tuple(place) for place in np.argwhere(image.pixels)] == [(y, x)]


def test_released_crops_a_larger_source_to_its_centre() -> None:
    stored = np.random.default_rng(0).integers(1, 4096, (4280, 3521)).astype(np.uint16)
    image = prepare(radiograph(stored), "released-v1")
    assert image.affine.offset_y == pytest.approx(-540 / 5 + 0.4)
    assert image.pixels.all()
    top, left = 540, 481  # of 480.5, the odd column goes to the left
    expected = stored[top : top + 3200 : 5, left : left + 2560 : 5]
    assert np.array_equal(image.pixels, np.rint(expected / expected.max() * 65535).astype(np.uint16))


def test_released_knows_neither_polarity_nor_modality() -> None:
    stored = chest(1200, 1000, 12)
    plain = prepare(radiograph(stored), "released-v1").pixels
    other = Radiograph(stored, stored * np.float32(-2), stored > 100, inverted=True, facts=Facts())
    assert np.array_equal(prepare(other, "released-v1").pixels, plain)


@pytest.mark.parametrize(
    "stored",
    [np.zeros((900, 900), np.uint16), np.full((900, 900), -3, np.int16), np.ones((1, 1), np.uint8)],
    ids=["black", "below zero", "one pixel"],
)
def test_released_has_no_picture_of_one_value(stored: NDArray[Any]) -> None:
    with pytest.raises(RadiographError, match="fifth") as caught:
        prepare(radiograph(stored), "released-v1")
    assert caught.value.reason == Reason.CONSTANT_IMAGE


@given(st.integers(1, 6000), st.integers(1, 6000), st.floats(0, 1), st.floats(0, 1))
def test_points_come_back_from_a_crop(rows: int, columns: int, down: float, across: float) -> None:
    affine = stride(rows, columns, 5)
    point = (down * rows, across * columns)
    assert affine.to_source(*affine.to_model(*point)) == pytest.approx(point, abs=1e-6)


# gaze and saliency follow an affine that crops

SIZES = [(2544, 2203), (1201, 1723), (3280, 2621)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", [(0.3, 0.4), (0.7, 0.55), (0.5, 0.8)])
def test_gaze_peaks_where_the_reader_looked(size: tuple[int, int], place: tuple[float, float]) -> None:
    affine = stride(*size, 5)
    looked = (place[0] * size[0], place[1] * size[1])
    density = gaze_map(np.array([looked]), affine)
    assert density.shape == (HEIGHT, WIDTH)
    assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    y, x = np.unravel_index(density.argmax(), density.shape)
    expected = affine.to_model(*looked)
    assert (int(y), int(x)) == (int(expected[0]), int(expected[1]))


def test_gaze_leaks_neither_into_padding_nor_out_of_a_crop() -> None:
    affine = stride(3300, 1000, 5)  # cropped above and below, padded at both sides
    density = gaze_map(np.array([[1650.0, 3.0], [60.0, 500.0]]), affine)
    rows, columns = affine.shown
    assert (rows, columns) == (slice(0, 640), slice(156, 356))
    assert not density[:, :156].any()
    assert not density[:, 356:].any()
    assert density[0].max() > 0
    assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)


def test_gaze_that_a_crop_leaves_nothing_of_is_no_gaze() -> None:
    with pytest.raises(RadiographError) as caught:
        gaze_map(np.array([[10.0, 10.0]]), stride(6000, 6000, 5))
    assert caught.value.reason == Reason.NO_GAZE_IN_IMAGE


@pytest.mark.parametrize("size", SIZES)
def test_saliency_returns_to_the_pixel_it_was_seen_at(size: tuple[int, int]) -> None:
    affine = stride(*size, 5)
    density = np.zeros((HEIGHT, WIDTH), np.float32)
    density[300, 210] = 1
    source = to_source(density, affine)
    assert source.shape == size
    assert source.sum(dtype=np.float64) == pytest.approx(1, abs=1e-4)
    place = np.unravel_index(source.argmax(), source.shape)
    assert (place[0] + 0.5, place[1] + 0.5) == pytest.approx(affine.to_source(300.5, 210.5))


def test_no_saliency_lies_where_nothing_was_seen() -> None:
    affine = stride(4000, 2000, 5)
    source = to_source(np.full((HEIGHT, WIDTH), 1e-6, np.float32), affine)
    seen = source > 0
    assert np.flatnonzero(seen.any(axis=1))[[0, -1]].tolist() == [398, 3597]
    assert seen[1000].all()


def test_a_model_pixel_lies_on_the_source_if_its_centre_does() -> None:
    affine = Affine(scale_y=0.2, scale_x=0.2, offset_y=-3.4, offset_x=10.6, rows=4000, columns=1000)
    assert affine.content_origin == (-3, 11)
    assert affine.content_size == (800, 200)
    assert affine.shown == (slice(0, 640), slice(11, 211))
    assert affine.shown_content == (slice(3, 643), slice(0, 200))


# mimic-jpg-v1


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("kind", ["uint16", "int16", "uint8"])
def test_mimic_jpg_is_the_recipe(kind: str, inverted: bool) -> None:
    values = chest(640, 512, 8).astype(np.int64)
    stored = (values if kind == "uint8" else 13 * values - 90 * (kind == "int16")).astype(kind)
    image = prepare(radiograph(stored, inverted=inverted), "mimic-jpg-v1")
    lifted = stored.astype(np.float64) - float(stored.min())
    grey = (lifted / lifted.max() * 255).astype(np.uint8)
    expected = cv2.equalizeHist(255 - grey if inverted else grey)
    assert np.array_equal(image.pixels, expected.astype(np.uint16) * 257)


def test_mimic_jpg_uses_stored_values_and_keeps_padding() -> None:
    stored = chest(700, 500, 12)
    plain = prepare(radiograph(stored), "mimic-jpg-v1")
    other = Radiograph(stored, stored * np.float32(-3), stored > 700, inverted=False, facts=Facts())
    assert np.array_equal(prepare(other, "mimic-jpg-v1").pixels, plain.pixels)
    assert plain.affine == fit(700, 500)


def test_a_picture_that_is_equalised_already_hardly_changes() -> None:
    stored = chest(640, 512, 12)
    once = prepare(radiograph(stored), "mimic-jpg-v1").pixels
    jpeg = cv2.imdecode(cv2.imencode(".jpg", (once >> 8).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95])[1], 0)
    for again, most in (((once >> 8).astype(np.uint8), 1.0), (np.asarray(jpeg), 2.0)):
        twice = prepare(radiograph(again), "mimic-jpg-v1").pixels
        assert np.abs(twice.astype(int) - once).mean() / 257 < most


def test_mimic_jpg_has_no_picture_of_one_value() -> None:
    with pytest.raises(RadiographError) as caught:
        prepare(radiograph(np.full((60, 50), 9, np.uint16)), "mimic-jpg-v1")
    assert caught.value.reason == Reason.CONSTANT_IMAGE


# voi-v1


def shown(stored: NDArray[Any], voi: Window | LookUpTable | None, **options: Any) -> NDArray[np.uint16]:
    return prepare(replace(radiograph(stored, **options), voi=voi), "voi-v1").pixels


def test_voi_shows_what_the_window_shows() -> None:
    stored = chest(640, 512, 12)
    expected = np.clip((stored.astype(float) - 999.5) / 1999 + 0.5, 0, 1)
    assert np.abs(shown(stored, Window(1000, 2000)) - expected * 65535).max() <= 1


def test_voi_inverts_once_after_the_window() -> None:
    stored = chest(640, 512, 12)
    plain, inverted = (shown(stored, Window(1000, 700), inverted=way) for way in (False, True))
    assert np.abs(65535 - inverted.astype(int) - plain).max() <= 1


def test_voi_looks_values_up_after_the_modality_lut() -> None:
    stored = (np.arange(640 * 512) % 4).astype(np.uint16).reshape(640, 512)
    table = LookUpTable(10, np.array([0, 0.5, 1], np.float32))
    source = Radiograph(stored, stored * np.float32(1) + np.float32(9), None, False, Facts(), voi=table)
    assert np.array_equal(prepare(source, "voi-v1").pixels, np.array([0, 0, 32768, 65535], np.uint16)[stored])


def test_voi_leaves_padding_black() -> None:
    stored = chest(640, 512, 12)
    valid = stored < 3000
    source = Radiograph(stored, stored, valid, inverted=True, facts=Facts(), voi=Window(1000, 2000))
    assert not prepare(source, "voi-v1").pixels[~valid].any()


def test_without_a_voi_it_is_the_default_profile() -> None:
    stored = chest(900, 512, 12)
    assert np.array_equal(shown(stored, None), prepare(radiograph(stored)).pixels)


def test_a_window_beside_the_values_shows_nothing() -> None:
    with pytest.raises(RadiographError, match="window shows one value") as caught:
        shown(chest(640, 512, 12), Window(50_000, 100))
    assert caught.value.reason == Reason.CONSTANT_IMAGE


# reduced decoding


@pytest.mark.parametrize("name", ["cxrgaze-v1", "mimic-jpg-v1", "voi-v1"])
def test_fewer_decoded_pixels_give_nearly_the_same_image_and_the_sources_affine(name: str) -> None:
    y, x = np.mgrid[0:1601, 0:1403]
    full = np.rint(2000 + 1500 * np.sin(y / 400) * np.cos(x / 300)).astype(np.uint16)
    half = cv2.resize(full, (702, 801), interpolation=cv2.INTER_AREA)
    expected = prepare(radiograph(full), name)
    check_reducible(name)
    found = prepare(radiograph(half, rows=1601, columns=1403, decode="1/2"), name)
    assert found.affine == expected.affine == fit(1601, 1403)
    assert np.abs(found.pixels.astype(int) - expected.pixels).mean() / 65535 < 0.005


def test_released_needs_every_pixel() -> None:
    with pytest.raises(ConfigError, match=r"released-v1 takes single pixels of the file\. Leave --decode reduced out"):
        check_reducible("released-v1")
    with pytest.raises(ConfigError, match="released-v1"):
        prepare(radiograph(chest(600, 500, 12), rows=1200, columns=1000, decode="1/2"), "released-v1")


# who refuses images of another profile


def test_a_run_is_not_continued_with_a_bundle_of_another_profile(tmp_path: Path) -> None:
    from cxrgaze_ray.scoring.planning import find_planned
    from cxrgaze_ray.scoring.runs import Request
    from tests.unit.scoring.test_runs import PIN, make_run, make_spec

    bundle = LocalStore(str(tmp_path / "bundle"))
    write_bundle(bundle, make_bundle(build(PRESETS["tiny"]), "m", trained=False, profile="voi-v1"))
    pin = PIN.model_copy(update={"uri": bundle.uri})
    make_run(tmp_path / "out", model=pin)
    request: Request = make_spec().request
    with pytest.raises(BundleError, match="profile voi-v1, not cxrgaze-v1"):
        find_planned(request, str(tmp_path / "out"), str(tmp_path), Identities, new=False)


def store_info(profile: str, sha256: str) -> Any:
    from cxrgaze_ray.shards import SplitSettings, StoreInfo

    return StoreInfo(
        profile=profile, profile_sha256=sha256, manifest_sha256="", split=SplitSettings(), shards=[], counts={}
    )


def test_training_refuses_a_parent_of_another_profile() -> None:
    from cxrgaze_ray.training.run import check_store

    parent = make_bundle(build(PRESETS["tiny"]), "m", trained=True).info
    check_store(store_info(DEFAULT_PROFILE, profile_sha256(DEFAULT_PROFILE)), parent)
    released = store_info("released-v1", profile_sha256("released-v1"))
    check_store(released)
    with pytest.raises(BundleError, match="profile cxrgaze-v1, not released-v1"):
        check_store(released, parent)


@pytest.mark.parametrize(("profile", "sha256"), [("other", "0" * 64), (DEFAULT_PROFILE, "0" * 64)])
def test_training_refuses_a_store_of_a_profile_that_is_not_this_versions(profile: str, sha256: str) -> None:
    from cxrgaze_ray.training.run import check_store

    with pytest.raises(UserError, match=f"This version does not have .*profile {profile}"):
        check_store(store_info(profile, sha256))


@pytest.mark.parametrize("profile", ["released-v1", DEFAULT_PROFILE])
def test_evaluation_refuses_a_store_of_another_profile(profile: str) -> None:
    from cxrgaze_ray.evaluation.evaluate import evaluate_bundle
    from cxrgaze_ray.shards import ShardStore

    store = ShardStore(LocalStore("/nowhere"), store_info(profile, "0" * 64))
    with pytest.raises(BundleError, match=r"not released-v1|other settings"):
        evaluate_bundle(make_bundle(build(PRESETS["tiny"]), "m", trained=True), store, "test")
