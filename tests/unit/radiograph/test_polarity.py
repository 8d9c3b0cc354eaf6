"""Polarity by the picture: right on films shown right, wrong on inverted ones, unsure on what is no chest film."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from cxrgaze_ray.phantoms.anatomy import draw
from cxrgaze_ray.radiograph.reading import Facts, Radiograph, read_radiograph
from cxrgaze_ray.radiograph.reading.polarity import check_polarity
from tests.dicom_files import make_dicom, picture


def radiograph(pixels: NDArray[np.generic], *, inverted: bool = False, view: str | None = None) -> Radiograph:
    shown = np.asarray(pixels, np.float32)
    return Radiograph(shown, shown, None, inverted, Facts(view_position=view))  # type: ignore[arg-type]


@cache
def phantoms() -> tuple[NDArray[np.float32], ...]:
    rng = np.random.default_rng(11)
    shapes = ((320, 256, "PA"), (256, 300, "AP"))
    return tuple(
        draw(rng, label, rows, columns, view=view).image for rows, columns, view in shapes for label in range(3)
    )


def test_phantoms_agree_and_their_negatives_disagree() -> None:
    checks = [(check_polarity(radiograph(image)), check_polarity(radiograph(1 - image))) for image in phantoms()]
    assert checks == [("agrees", "disagrees")] * len(checks)


def test_the_tag_counts() -> None:
    for image in phantoms()[:3]:
        assert check_polarity(radiograph(1 - image, inverted=True)) == "agrees"
        assert check_polarity(radiograph(image, inverted=True)) == "disagrees"


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_wrong_tag_is_on_the_facts(photometric: str) -> None:
    stored = (phantoms()[0] * 4095).astype(np.uint16)  # as MONOCHROME2 wants it
    facts = read_radiograph(make_dicom(stored, BitsStored=12, PhotometricInterpretation=photometric)).facts
    assert facts.photometric_check == ("agrees" if photometric == "MONOCHROME2" else "disagrees")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pictures_are_taken_to_be_bright_where_dense(kind: str) -> None:
    image = (phantoms()[0] * 255).astype(np.uint8)
    assert read_radiograph(picture(image, kind)).facts.photometric_check == "agrees"
    assert read_radiograph(picture(255 - image, kind)).facts.photometric_check == "disagrees"


def test_padding_counts_as_air_whatever_its_value() -> None:
    image = phantoms()[0]
    padded = np.pad(image, 60, constant_values=9.0)
    shown = replace(radiograph(padded), valid=padded < 8)
    assert check_polarity(shown) == "agrees"


def page() -> NDArray[np.uint8]:
    """A white page with lines of black text."""
    image = np.full((400, 300), 255, np.uint8)
    image[40:360:20, 30:270:4] = 0
    return image


@pytest.mark.parametrize(
    "pixels", [page(), 255 - page(), np.full((50, 40), 7, np.uint8), np.random.default_rng(3).random((300, 200))]
)
def test_what_is_no_chest_film_is_unsure(pixels: NDArray[np.generic]) -> None:
    assert check_polarity(radiograph(pixels)) == "unsure"


def test_a_lateral_is_unsure() -> None:
    assert check_polarity(radiograph(phantoms()[0], view="LL")) == "unsure"
