"""Radiograph to model image: where pixels go, and what their values become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.preprocess import fit, prepare, to_network
from cxrgaze_ray.radiograph.reading import Facts, Radiograph
from cxrgaze_ray.schemas import Reason

SIZES = st.integers(1, 6000)


def radiograph(pixels: NDArray[Any], valid: NDArray[np.bool_] | None = None, *, inverted: bool = False) -> Radiograph:
    return Radiograph(pixels, pixels, valid, inverted, Facts())


def rescaled(stored: NDArray[Any], slope: float = 1.0, intercept: float = 0.0) -> Radiograph:
    return Radiograph(stored, stored * np.float32(slope) + np.float32(intercept), None, False, Facts())


def smooth(rows: int = 800, columns: int = 700, top: int = 65535) -> NDArray[np.uint16]:
    """Return a picture without edges that uses every level up to the top one."""
    y, x = np.mgrid[0:rows, 0:columns]
    waves = np.sin(2 * np.pi * y / rows) * np.cos(3 * np.pi * x / columns) + x / columns
    scaled = (waves - waves.min()) / np.ptp(waves)
    picture: NDArray[np.uint16] = np.rint(scaled * top).astype(np.uint16)
    return picture


def ramp() -> NDArray[np.uint16]:
    """Return 640x512 pixels that need no resampling: every 16-bit value five times."""
    return (np.arange(640 * 512) // 5).astype(np.uint16).reshape(640, 512)


@given(SIZES, SIZES)
def test_the_picture_fits_keeps_its_aspect_and_is_centred(rows: int, columns: int) -> None:
    affine = fit(rows, columns)
    height, width = affine.content_size
    scale = min(640 / rows, 512 / columns)
    assert (affine.rows, affine.columns) == (rows, columns)
    assert height == 640 or width == 512
    assert height <= 640
    assert width <= 512
    assert abs(height - rows * scale) <= 0.5 or height == 1
    assert abs(width - columns * scale) <= 0.5 or width == 1
    assert affine.offset_y == (640 - height) // 2
    assert affine.offset_x == (512 - width) // 2


@given(SIZES, SIZES, st.floats(0, 1), st.floats(0, 1))
def test_points_come_back(rows: int, columns: int, down: float, across: float) -> None:
    affine = fit(rows, columns)
    model = affine.to_model(down * rows, across * columns)
    assert 0 <= model[0] <= 640 + 1e-6
    assert 0 <= model[1] <= 512 + 1e-6
    assert affine.to_source(*model) == pytest.approx((down * rows, across * columns), abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [(3056, 2544), (2544, 3056), (640, 512), (512, 640), (100, 2000), (2000, 3), (1, 9), (300, 200)],
)
def test_every_source_gives_a_model_image_with_zero_padding(rows: int, columns: int) -> None:
    pixels = (np.add.outer(np.arange(rows), np.arange(columns)) % 101 + 40).astype(np.uint16)
    image = prepare(radiograph(pixels))
    assert image.pixels.dtype == np.uint16
    assert image.pixels.shape == (640, 512)
    assert image.affine == fit(rows, columns)
    height, width = image.affine.content_size
    top, left = int(image.affine.offset_y), int(image.affine.offset_x)
    outside = np.ones((640, 512), bool)
    outside[top : top + height, left : left + width] = False
    assert not image.pixels[outside].any()
    assert image.pixels.any()


@pytest.mark.parametrize(("rows", "columns"), [(2000, 1700), (900, 1600), (333, 222)])
def test_a_mark_lies_where_the_affine_says(rows: int, columns: int) -> None:
    pixels = np.zeros((rows, columns), np.uint16)
    y, x = rows // 5, 3 * columns // 4
    half = rows // 20
    pixels[y - half : y + half, x - half : x + half] = 1000
    image = prepare(radiograph(pixels))
    weights = image.pixels / image.pixels.sum()
    found = [float((weights.sum(axis=1 - axis) * (np.arange(n) + 0.5)).sum()) for axis, n in enumerate((640, 512))]
    assert found == pytest.approx(image.affine.to_model(y, x), abs=0.6)


def test_values_are_clipped_at_the_outer_permille_and_scaled() -> None:
    values = ramp()
    # at least 0.1% of 327,680 pixels, 327.68, do not exceed 65; at least 99.9%, 327,352.32, do not exceed 65,470
    expected = np.clip((values.astype(float) - 65) / (65470 - 65), 0, 1) * 65535
    found = prepare(radiograph(values)).pixels
    assert np.abs(found - expected).max() <= 1
    assert (found[values <= 65] == 0).all()
    assert (found[values >= 65470] == 65535).all()


def test_hot_and_dead_pixels_do_not_squeeze_the_picture() -> None:
    values = smooth(640, 512, top=4000)
    plain = prepare(radiograph(values)).pixels
    values = values.copy()
    values[5, :100] = 65535
    values[6, :100] = 0
    found = prepare(radiograph(values)).pixels
    assert np.abs(found[10:].astype(int) - plain[10:]).max() < 65535 * 0.01


def test_monochrome1_is_inverted_once() -> None:
    plain, inverted = prepare(radiograph(ramp())), prepare(radiograph(ramp(), inverted=True))
    assert np.abs(65535 - inverted.pixels.astype(int) - plain.pixels).max() <= 1
    assert inverted.affine == plain.affine
    assert inverted.intensity_mean == pytest.approx(1 - plain.intensity_mean, abs=1e-4)


def test_both_photometrics_of_a_picture_agree() -> None:
    values = smooth(top=4095)
    one = prepare(radiograph(values)).pixels.astype(int)
    other = prepare(radiograph((4095 - values).astype(np.uint16), inverted=True)).pixels.astype(int)
    assert np.abs(one - other).max() <= 65535 * 2 / 4095


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("padding", [0, 65535, 30000])
def test_padding_counts_for_nothing_and_becomes_zero(inverted: bool, padding: int) -> None:
    values = (smooth(640, 512, top=1000) + 20000).astype(np.uint16)
    valid = np.ones((640, 512), bool)
    valid[:, :100] = False
    bare = prepare(radiograph(values[:, 100:], inverted=inverted))
    values[:, :100] = padding
    found = prepare(radiograph(values, valid, inverted=inverted)).pixels
    assert not found[:, :100].any()
    # the same percentiles as without the padding: compare where no resampling comes in between
    usable = values[valid].astype(float)
    low, high = (np.sort(usable)[max(0, int(np.ceil(share * usable.size)) - 1)] for share in (0.001, 0.999))
    expected = np.clip((values[:, 100:] - low) / (high - low), 0, 1)
    expected = (1 - expected if inverted else expected) * 65535
    assert np.abs(found[:, 100:] - expected).max() <= 1
    assert found[:, 100:].mean() / 65535 == pytest.approx(bare.intensity_mean, abs=0.01)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((50, 40), 7, np.uint16),
        np.zeros((50, 40), np.uint8),
        np.full((50, 40), -3, np.int16),
    ],
    ids=lambda pixels: str(pixels.dtype),
)
def test_a_constant_image_has_its_reason(pixels: NDArray[Any]) -> None:
    with pytest.raises(RadiographError) as caught:
        prepare(radiograph(pixels))
    assert caught.value.reason == Reason.CONSTANT_IMAGE


def test_a_constant_image_stays_one_after_its_rescale() -> None:
    with pytest.raises(RadiographError, match="one value only"):
        prepare(rescaled(np.full((50, 40), 7, np.uint16), 1.5))


def test_a_few_odd_pixels_make_no_picture() -> None:
    pixels = np.full((640, 512), 7, np.uint16)
    pixels[0, :100] = 9
    with pytest.raises(RadiographError, match="one value only"):
        prepare(radiograph(pixels))


def test_an_image_of_padding_only_is_constant() -> None:
    with pytest.raises(RadiographError, match="padding only") as caught:
        prepare(radiograph(smooth(), np.zeros((800, 700), bool)))
    assert caught.value.reason == Reason.CONSTANT_IMAGE


def test_a_constant_picture_in_padding_is_constant() -> None:
    pixels = np.full((50, 40), 7, np.uint16)
    valid = np.ones((50, 40), bool)
    pixels[:, :9], valid[:, :9] = 0, False
    with pytest.raises(RadiographError, match="one value only"):
        prepare(radiograph(pixels, valid))


def test_8_and_16_bits_of_a_picture_agree() -> None:
    fine = smooth()
    coarse = (fine >> 8).astype(np.uint8)
    one, other = prepare(radiograph(fine)), prepare(radiograph(coarse))
    assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 65535 * 2 / 255
    assert other.intensity_mean == pytest.approx(one.intensity_mean, abs=0.005)


def shifted(pixels: NDArray[np.uint16]) -> NDArray[np.int16]:
    return (pixels.astype(np.int32) - 32768).astype(np.int16)


def test_signed_values_give_the_same_picture() -> None:
    fine = smooth()
    assert np.array_equal(prepare(radiograph(shifted(fine))).pixels, prepare(radiograph(fine)).pixels)


@pytest.mark.parametrize("kind", ["uint16", "int16", "uint8"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.25, -1024), (1e-3, 7)])
def test_a_rescale_changes_the_picture_by_a_bin_at_most(kind: str, slope: float, intercept: float) -> None:
    fine = smooth()
    kinds: dict[str, NDArray[Any]] = {"uint16": fine, "int16": shifted(fine), "uint8": (fine >> 8).astype(np.uint8)}
    stored = kinds[kind]
    one, other = prepare(radiograph(stored)), prepare(rescaled(stored, slope, intercept))
    # rescaled values go through a histogram of 4,096 bins
    assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 65535 * 2 / 4096


def test_a_falling_rescale_inverts() -> None:
    one, other = prepare(radiograph(smooth(), inverted=True)), prepare(rescaled(smooth(), -1))
    assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 65535 * 2 / 4096


def test_counts_are_exact_beyond_what_float32_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    source = radiograph(smooth(), np.arange(800 * 700).reshape(800, 700) % 5 > 0)
    expected = prepare(source)
    monkeypatch.setattr("cxrgaze_ray.radiograph.preprocess.levels._EXACT_COUNTS", 0)
    assert np.array_equal(prepare(source).pixels, expected.pixels)


def test_an_older_opencv_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [prepare(radiograph(values)).pixels for values in (smooth(), shifted(smooth()))]
    monkeypatch.setattr("cxrgaze_ray.radiograph.preprocess.levels._WIDE_TABLES", False)
    found = [prepare(radiograph(values)).pixels for values in (smooth(), shifted(smooth()))]
    assert np.array_equal(found, expected)


def test_a_scale_and_an_offset_of_the_values_do_not_matter() -> None:
    fine = smooth(top=4095)
    one, other = prepare(radiograph(fine)), prepare(radiograph((fine * 3 + 500).astype(np.uint16)))
    assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 1


def test_preparing_leaves_the_radiograph_alone() -> None:
    source = smooth()
    valid = np.ones(source.shape, bool)
    valid[0] = False
    before = source.copy()
    prepare(radiograph(source, valid, inverted=True))
    assert np.array_equal(source, before)
    assert valid[1:].all()


def test_shrinking_conserves_the_mean() -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (1280 * 2, 1024 * 2)).astype(np.uint16)
    low, high = np.sort(noise.ravel())[[round(0.001 * noise.size) - 1, round(0.999 * noise.size) - 1]]
    scaled = np.clip((noise.astype(float) - low) / (int(high) - int(low)), 0, 1)
    image = prepare(radiograph(noise))
    assert image.pixels.mean() / 65535 == pytest.approx(scaled.mean(), abs=1e-4)
    blocks = scaled.reshape(640, 4, 512, 4).mean(axis=(1, 3))
    assert np.abs(image.pixels / 65535 - blocks).max() < 1e-4


def test_a_small_source_is_interpolated_without_blocks() -> None:
    image = prepare(radiograph(np.tile(np.arange(32, dtype=np.uint16) * 100, (40, 1))))
    steps = np.diff(image.pixels[320].astype(int))
    assert (steps >= 0).all()
    assert steps.max() < 65535 / 31 / 8


def test_intensities_are_of_the_picture_without_the_models_padding() -> None:
    wide = prepare(radiograph(smooth(500, 2000)))
    height, width = wide.affine.content_size
    assert height < 320 / 2  # so that three quarters of the model image are padding
    top = int(wide.affine.offset_y)
    content = wide.pixels[top : top + height, :width] / 65535
    assert wide.intensity_mean == pytest.approx(content.mean(), abs=1e-5)
    found = (wide.intensity_p1, wide.intensity_p50, wide.intensity_p99)
    assert found == pytest.approx(np.quantile(content, [0.01, 0.5, 0.99]), abs=1e-3)
    assert 0 < wide.intensity_p1 < wide.intensity_p50 < wide.intensity_p99 < 1


def test_to_network_keeps_images_of_its_size() -> None:
    images = np.stack([ramp(), ramp()[::-1]])
    found = to_network(images, (640, 512))
    assert found.dtype == torch.float32
    assert found.shape == (2, 1, 640, 512)
    assert (float(found.min()), float(found.max())) == (0.0, 1.0)
    np.testing.assert_allclose(found[:, 0].numpy(), images / 65535, atol=1e-7)


@pytest.mark.parametrize("size", [(320, 256), (160, 128)])
def test_to_network_averages_whole_blocks(size: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 65536, (3, 640, 512)).astype(np.uint16)
    found = to_network(images, size)
    assert found.dtype == torch.float32
    assert found.shape == (3, 1, *size)
    ratio = 640 // size[0]
    blocks = images.reshape(3, size[0], ratio, size[1], ratio).mean(axis=(2, 4)) / 65535
    np.testing.assert_allclose(found[:, 0].numpy(), blocks, atol=1e-6)
