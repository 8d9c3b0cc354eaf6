"""Saliency maps outside the network."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cxrgaze_ray.evaluation.maps import correlation
from cxrgaze_ray.gaze.saliency import decode, encode, overlay, png_bytes, shrink, to_source
from cxrgaze_ray.radiograph.preprocess import fit

Density = NDArray[np.float32]


def spots(*centres: tuple[float, float], sigma: float = 15.1) -> Density:
    """Return Gaussians of a gaze map's width around points of the model image, summing to 1."""
    y, x = np.mgrid[0:640, 0:512] + 0.5
    total = sum(np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2)) for cy, cx in centres)
    density: Density = (total / np.sum(total)).astype(np.float32)
    return density


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    "density",
    [
        spots((320, 256)),
        spots((100, 80), (500, 300), (320, 511)),
        spots((0, 0)),
        spots((300, 200), sigma=60),
        spots((200, 99), (421, 300), sigma=9.8),
    ],
    ids=["one", "three", "corner", "wide", "one degree on a MIMIC-CXR image, the narrowest target"],
)
def test_a_smooth_map_survives(density: Density) -> None:
    png, _ = encode(density)
    found = decode(png)
    assert found.dtype == np.float32
    assert found.shape == (640, 512)
    assert found.sum(dtype=np.float64) == pytest.approx(1, abs=1e-4)
    r = correlation(found, density)
    assert r is not None
    assert r >= 0.999
    assert np.abs(found - density).max() < 0.02 * density.max()


def test_a_map_that_was_sent_at_the_stored_grid_is_the_same() -> None:
    density = spots((100, 80), (500, 300))
    assert encode(shrink(density)) == encode(density)


def test_maps_are_not_turned_or_mirrored() -> None:
    found = decode(encode(spots((90, 400)))[0])
    assert np.unravel_index(found.argmax(), found.shape) == pytest.approx((90, 400), abs=2)


def test_the_png_is_8_bit_grey_and_uses_every_level() -> None:
    png, _ = encode(spots((320, 256), sigma=60))
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (256, 320))
    levels = pixels_of(png)
    assert levels.dtype == np.uint8
    assert (int(levels.min()), int(levels.max())) == (0, 255)


def test_the_peak_is_the_density_of_the_brightest_level() -> None:
    density = spots((320, 256), (100, 100))
    png, peak = encode(density)
    assert peak == pytest.approx(float(density.max()), rel=0.01)
    blocks = density.reshape(320, 2, 256, 2).mean(axis=(1, 3))
    assert peak == pytest.approx(float(blocks.max()), rel=1e-5)
    assert np.abs(pixels_of(png) * (peak / 255) - blocks).max() <= peak / 255 * 0.51


def test_faint_maps_are_scaled_to_their_peak() -> None:
    bright, faint = spots((320, 256)), spots((320, 256)) * np.float32(1e-6)
    assert encode(faint)[0] == encode(bright)[0]
    assert encode(faint)[1] == pytest.approx(encode(bright)[1] * 1e-6)


def test_the_same_map_gives_the_same_bytes() -> None:
    assert encode(spots((320, 256))) == encode(spots((320, 256)))


def test_a_map_of_zeros_becomes_an_even_one() -> None:
    png, peak = encode(np.zeros((640, 512), np.float32))
    assert peak == 0
    assert not pixels_of(png).any()
    np.testing.assert_allclose(decode(png), 1 / (640 * 512), rtol=1e-6)


def test_an_even_map_stays_even() -> None:
    png, peak = encode(np.full((640, 512), 1 / (640 * 512), np.float32))
    assert peak == pytest.approx(1 / (640 * 512))
    assert (pixels_of(png) == 255).all()
    np.testing.assert_allclose(decode(png), 1 / (640 * 512), rtol=1e-5)


def test_only_png_is_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("L", (256, 320)).save(buffer, "JPEG")
    with pytest.raises(OSError, match="cannot identify"):
        decode(buffer.getvalue())


@pytest.fixture
def picture() -> NDArray[np.uint16]:
    ramp = np.linspace(0, 65535, 640 * 512).reshape(640, 512)
    return ramp.astype(np.uint16)


def test_an_overlay_is_coloured_where_the_density_is_high_and_grey_elsewhere(picture: NDArray[np.uint16]) -> None:
    density = spots((320, 256))
    blended = overlay(picture, density)
    assert blended.dtype == np.uint8
    assert blended.shape == (640, 512, 3)
    away = density < density.max() * 1e-9
    assert away.mean() > 0.5
    assert np.array_equal(blended[away], np.repeat((picture >> 8)[away, None], 3, axis=1))
    red, _, blue = blended[320, 256].astype(int)
    assert red > blue + 30


def test_an_overlay_keeps_the_anatomy_visible(picture: NDArray[np.uint16]) -> None:
    density = np.ones((640, 512), np.float32)
    grey = overlay(picture, density).astype(int).sum(axis=2)
    assert grey[-1, -1] - grey[0, 0] > 3 * 255 * 0.4


def test_an_overlay_of_no_strength_or_no_density_is_the_picture(picture: NDArray[np.uint16]) -> None:
    plain = np.repeat((picture >> 8)[..., None], 3, axis=2)
    assert np.array_equal(overlay(picture, spots((320, 256)), strength=0), plain)
    assert np.array_equal(overlay(picture, np.zeros((640, 512), np.float32)), plain)


@pytest.mark.parametrize(("rows", "columns"), [(2544, 2000), (700, 1500), (1500, 700), (300, 200), (640, 512)])
def test_a_map_on_the_source_has_its_size_its_place_and_sums_to_one(rows: int, columns: int) -> None:
    affine = fit(rows, columns)
    y, x = 0.3 * rows, 0.6 * columns
    source = to_source(spots(affine.to_model(y, x)), affine)
    assert source.dtype == np.float32
    assert source.shape == (rows, columns)
    assert source.sum(dtype=np.float64) == pytest.approx(1, abs=1e-4)
    found = [float((source.sum(axis=1 - axis) * (np.arange(n) + 0.5)).sum()) for axis, n in enumerate(source.shape)]
    assert found == pytest.approx((y, x), abs=2 / affine.scale_y)


def test_saliency_in_the_padding_is_left_out() -> None:
    affine = fit(512, 2048)  # 128 rows of the model image, from 256 on
    source = to_source(spots((50, 256), (320, 128)), affine)
    assert source.shape == (512, 2048)
    assert source.sum(dtype=np.float64) == pytest.approx(1, abs=1e-4)
    assert np.unravel_index(source.argmax(), source.shape) == pytest.approx((256, 512), abs=6)


@pytest.mark.parametrize(
    "density", [np.zeros((640, 512), np.float32), spots((20, 20), sigma=1)], ids=["zeros", "padding"]
)
def test_a_map_without_saliency_on_the_source_becomes_an_even_one(density: Density) -> None:
    np.testing.assert_allclose(to_source(density, fit(100, 400)), 1 / (100 * 400), rtol=1e-6)


def test_png_bytes_keep_pixels() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    assert np.array_equal(pixels_of(png_bytes(colours)), colours)
    assert np.array_equal(pixels_of(png_bytes(colours[..., 0])), colours[..., 0])
