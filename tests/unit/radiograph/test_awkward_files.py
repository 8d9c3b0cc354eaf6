"""Pictures that other systems got wrong in silence: here each is the control's picture, or refused for what is true."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.gaze.saliency import to_source
from cxrgaze_ray.radiograph.preprocess import prepare, profile_names
from cxrgaze_ray.radiograph.reading import Reading, read_radiograph
from cxrgaze_ray.schemas import HEIGHT, ODDITY_HELP, WIDTH, Affine, Oddity, Reason, join_oddities
from tests.awkward_files import (
    COLUMNS,
    ROWS,
    colour_dicom,
    control,
    eight,
    framed,
    palette_dicom,
    png,
    refused,
    same_picture,
    turned,
    wavelet,
    widened,
    with_element,
)
from tests.dicom_files import dicom_bytes, dicom_dataset, make_dicom, picture

SAME = same_picture()
REFUSED = refused()
CONTROL = prepare(read_radiograph(make_dicom(control(), BitsStored=12)))
TOLERANCE = 3 / 255


def apart(data: bytes, reading: Reading | None = None) -> float:
    image = prepare(read_radiograph(data, reading))
    return float(np.abs(image.pixels.astype(np.int64) - CONTROL.pixels).mean() / 65535)


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("reduced", [False, True], ids=["full", "reduced"])
def test_it_is_the_controls_picture(name: str, reduced: bool) -> None:
    radiograph = read_radiograph(SAME[name], Reading(reduced=reduced))
    assert apart(SAME[name], Reading(reduced=reduced)) < TOLERANCE
    assert radiograph.facts.photometric_check in ("agrees", "unsure")


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_transfer_syntax_is_not_called_a_cut_file(name: str) -> None:
    with pytest.raises(RadiographError) as caught:
        read_radiograph(REFUSED[name])
    assert caught.value.reason == Reason.WRONG_TRANSFER_SYNTAX


ODDITIES = {
    "JPEG 2000 of 16 bits, tags say 12": "bits",
    "native of 16 bits, tags say 12": "bits",
    "signed JPEG 2000, tags say unsigned": "sign",
    "two's complement in an unsigned JPEG 2000": "sign",
    "grey JPEG-LS in three channels, tags say one": "components",
    "padding value 65535 of 12 bits": "padding_out_of_range",
    "padding to a limit of 65535": "padding_out_of_range",
    "private element of a VR in small letters": "skipped_elements",
    "a phone's several pictures, turned": "turned",
    "grey RGB": None,
    "grey palette": None,
    "zeros after a JPEG Lossless": None,
    "Exif 1 JPEG": None,
}


@pytest.mark.parametrize("name", ODDITIES)
def test_the_row_says_in_what_the_file_was_wrong(name: str) -> None:
    assert read_radiograph(SAME[name]).facts.oddities == ODDITIES[name]


def test_every_oddity_is_explained() -> None:
    assert set(ODDITY_HELP) == set(Oddity)
    assert join_oddities([Oddity.TINT, Oddity.BITS, Oddity.TINT]) == "bits,tint"
    assert join_oddities([]) is None


@pytest.mark.parametrize("name", ["JPEG 2000", "JPEG Lossless", "JPEG-LS"])
def test_the_bits_of_the_compressed_image_are_recorded_and_kept(name: str) -> None:
    radiograph = read_radiograph(SAME[f"{name} of 16 bits, tags say 12"])
    assert radiograph.facts.bits_stored == 16
    np.testing.assert_array_equal(radiograph.stored, widened())


def noise() -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 2**16, (ROWS, COLUMNS)).astype(np.uint16)


def test_a_compressed_image_is_believed_on_its_bits_where_no_reading_is_smooth() -> None:
    radiograph = read_radiograph(framed(wavelet(noise(), 16), JPEG2000Lossless))
    np.testing.assert_array_equal(radiograph.stored, noise())


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_dicom(noise(), BitsStored=12),
        lambda: framed(wavelet(noise(), 16), JPEG2000Lossless, BitsStored=16, HighBit=15, PixelRepresentation=1),
    ],
    ids=["bits without a header", "sign"],
)
def test_what_no_reading_makes_a_picture_of_is_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(RadiographError) as caught:
        read_radiograph(make())
    assert caught.value.reason == Reason.CORRUPT


def plane() -> NDArray[np.uint16]:
    """Return a drawing in the 13th bit, as old scanners kept an overlay."""
    drawn = np.zeros((ROWS, COLUMNS), np.uint16)
    drawn[200:210, 50:400] = drawn[100:500:7, 100:300] = 1 << 12
    return drawn


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
def test_an_overlay_in_unused_bits_is_no_part_of_the_picture(syntax: str, declared: bool) -> None:
    dataset = dicom_dataset(control() | plane(), BitsStored=12)
    if declared:
        dataset.add_new((0x6000, 0x0100), "US", 16)
        dataset.add_new((0x6000, 0x0102), "US", 12)
    if syntax == RLELossless:
        dataset.compress(syntax, generate_instance_uid=False)
    radiograph = read_radiograph(dicom_bytes(dataset))
    np.testing.assert_array_equal(radiograph.stored, control())
    assert radiograph.facts.oddities == (None if declared else "bits")


def test_sign_extended_values_are_not_odd() -> None:
    signed = (control().astype(np.int32) - 2048).astype(np.int16)
    radiograph = read_radiograph(make_dicom(signed, BitsStored=12))
    np.testing.assert_array_equal(radiograph.stored, signed)
    assert radiograph.facts.oddities is None


def test_padding_is_matched_in_the_bits_that_hold() -> None:
    wide = widened()
    wide[:, :40] = 65000
    radiograph = read_radiograph(framed(wavelet(wide, 16), JPEG2000Lossless, PixelPaddingValue=65000))
    assert radiograph.valid is not None
    np.testing.assert_array_equal(~radiograph.valid, wide == 65000)


def test_a_limit_out_of_range_leaves_the_value_alone() -> None:
    pixels = control()
    pixels[:, :40] = 0
    radiograph = read_radiograph(make_dicom(pixels, BitsStored=12, PixelPaddingValue=0, PixelPaddingRangeLimit=65535))
    assert radiograph.valid is not None
    np.testing.assert_array_equal(~radiograph.valid, pixels == 0)


def test_an_element_that_nothing_can_follow_is_said_to_be_in_the_way() -> None:
    data = with_element(make_dicom(control(), BitsStored=12), b"\x19\x00\x01\x10??\xff\x7fabcdef")
    with pytest.raises(RadiographError) as caught:
        read_radiograph(data)
    assert (caught.value.reason, "hides" in caught.value.message) == (Reason.CORRUPT, True)


def test_a_file_cut_behind_an_odd_element_is_cut() -> None:
    data = with_element(make_dicom(control(), BitsStored=12), b"\x19\x00\x01\x10??\x06\x00abcdef")
    with pytest.raises(RadiographError) as caught:
        read_radiograph(data[:-1000])
    assert caught.value.reason == Reason.TRUNCATED


def drawn_on(grey: NDArray[np.uint8], size: int = 30) -> NDArray[np.uint8]:
    """Return a picture with a red arrow's shaft."""
    rgb = np.stack([grey] * 3, axis=2)
    rgb[300 : 300 + size // 5, 200 : 200 + size] = (230, 40, 40)
    return rgb


COLOURED = {
    "JPEG": lambda rgb: picture(rgb, "JPEG", quality=95),
    "PNG": lambda rgb: picture(rgb, "PNG"),
    "PNG of 16 bits": lambda rgb: png(rgb.astype(np.uint16) << 4),
    "DICOM": lambda rgb: colour_dicom(rgb, "RGB"),
    "JPEG in DICOM": lambda rgb: framed(
        picture(rgb, "JPEG", quality=95),
        JPEGBaseline8Bit,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        SamplesPerPixel=3,
        PhotometricInterpretation="YBR_FULL_422",
    ),
}


@pytest.mark.parametrize("kind", COLOURED)
def test_drawn_colour_is_refused_in_every_format(kind: str) -> None:
    with pytest.raises(RadiographError) as caught:
        read_radiograph(COLOURED[kind](drawn_on(eight(control()))))
    assert caught.value.reason == Reason.NOT_GREYSCALE


@pytest.mark.parametrize("kind", COLOURED)
@pytest.mark.parametrize(("tint", "oddities"), [(10, None), (20, "tint")])
def test_a_tint_that_no_eye_sees_is_grey_and_what_lies_between_is_flagged(
    kind: str, tint: int, oddities: str | None
) -> None:
    rgb = np.stack([eight(control()) // 2] * 3, axis=2)
    rgb[..., 2] += np.uint8(tint)
    radiograph = read_radiograph(COLOURED[kind](rgb))
    assert radiograph.facts.oddities == oddities
    assert apart(COLOURED[kind](rgb)) < TOLERANCE


def test_a_photographed_film_is_refused() -> None:
    grey = eight(control())
    rgb = np.stack([grey // 2 + 60, grey // 2 + 45, grey // 2 + 25], axis=2)
    with pytest.raises(RadiographError, match="colour"):
        read_radiograph(picture(rgb, "JPEG", quality=90))


def test_a_coloured_palette_is_refused() -> None:
    ramp = np.arange(256, dtype=np.uint16) * 257
    with pytest.raises(RadiographError) as caught:
        read_radiograph(palette_dicom(eight(control()), np.stack([ramp, ramp[::-1], ramp])))
    assert caught.value.reason == Reason.NOT_GREYSCALE


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "RGB"])
def test_a_transparent_border_is_padding_whatever_it_holds(bits: int, channels: int) -> None:
    inner: NDArray[Any] = control() if bits == 16 else eight(control())
    grey = np.pad(inner, 60, constant_values=255)
    alpha: NDArray[Any] = np.pad(np.full_like(inner, 2**bits - 1), 60)
    layers = np.stack([grey] * channels + [alpha], axis=2)
    if channels == 3:
        layers[:30, :, 0] = 40  # a colour that nobody sees
    bordered = read_radiograph(png(layers))
    assert bordered.facts.bits_stored == bits
    assert bordered.valid is not None
    np.testing.assert_array_equal(bordered.valid, alpha > 0)
    np.testing.assert_array_equal(bordered.stored[bordered.valid], inner.ravel())
    assert not prepare(bordered).pixels[0].any()


def test_sixteen_bits_of_a_png_stay_grey_levels() -> None:
    for name in ("grey and alpha of 16 bits", "RGB of 16 bits", "RGB and alpha of 16 bits"):
        radiograph = read_radiograph(SAME[name])
        np.testing.assert_array_equal(radiograph.stored, control())
        assert len(np.unique(prepare(radiograph).pixels)) > 200


@pytest.mark.parametrize("orientation", range(1, 9))
def test_maps_land_on_the_picture_as_it_is_stored(orientation: int) -> None:
    """A map that is hot on the letter comes back hot on it in the stored pixels, and the affine says so too."""
    data = turned(orientation, "PNG")
    radiograph = read_radiograph(data)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(radiograph.stored, shown)
    stored = np.asarray(Image.open(io.BytesIO(data)))
    affine = prepare(radiograph).affine
    assert (affine.orientation, affine.rows, affine.columns) == (orientation, *stored.shape)
    letter = stored == 255
    row, column = (float(places.mean()) + 0.5 for places in np.nonzero(letter))
    y, x = affine.to_model(row, column)
    np.testing.assert_allclose(affine.to_source(y, x), (row, column))
    density = np.zeros((HEIGHT, WIDTH), np.float32)
    density[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3] = 1
    mapped = to_source(density, affine)
    assert mapped.shape == stored.shape
    peak = np.unravel_index(mapped.argmax(), mapped.shape)
    np.testing.assert_allclose(peak, (row, column), atol=5)


def test_an_exif_block_that_cannot_be_read_turns_nothing() -> None:
    data = turned(6, "JPEG")
    start = data.index(b"Exif\0\0") + 6
    broken = read_radiograph(data[:start] + b"\xff" * 8 + data[start + 8 :])
    assert (broken.orientation, broken.facts.oddities) == (1, None)


def stretched(**tags: Any) -> bytes:
    """Return the control scanned with pixels twice as high as wide: half of its rows."""
    halved = control().reshape(ROWS // 2, 2, COLUMNS).mean(axis=1).astype(np.uint16)
    return make_dicom(halved, BitsStored=12, **tags)


SPACINGS = {
    "ImagerPixelSpacing": ["0.4", "0.2"],
    "PixelSpacing": ["0.4", "0.2"],
    "NominalScannedPixelSpacing": ["0.4", "0.2"],
    "PixelAspectRatio": ["2", "1"],
}


@pytest.mark.parametrize("profile", ["cxrgaze-v1", "voi-v1", "mimic-jpg-v1"])
@pytest.mark.parametrize("tag", SPACINGS)
def test_pixels_that_are_not_square_keep_the_anatomys_shape(tag: str, profile: str) -> None:
    radiograph = read_radiograph(stretched(**{tag: SPACINGS[tag]}))
    assert radiograph.facts.oddities == "pixel_aspect"
    square = prepare(read_radiograph(make_dicom(control(), BitsStored=12)), profile)
    image = prepare(radiograph, profile)
    assert np.abs(image.pixels.astype(np.int64) - square.pixels).mean() / 65535 < 2 * TOLERANCE
    assert image.affine.shown == square.affine.shown
    assert (image.affine.rows, image.affine.columns) == (ROWS // 2, COLUMNS)
    np.testing.assert_allclose(image.affine.scale_y / image.affine.scale_x, 2, rtol=1e-3)


def test_the_released_recipe_stays_as_it_was_for_any_pixel() -> None:
    radiograph = read_radiograph(stretched(PixelSpacing=["0.4", "0.2"]))
    plain = read_radiograph(stretched())
    np.testing.assert_array_equal(prepare(radiograph, "released-v1").pixels, prepare(plain, "released-v1").pixels)
    assert radiograph.facts.oddities == "pixel_aspect"


@pytest.mark.parametrize(
    ("tags", "oddities"),
    [
        ({"PixelSpacing": ["0.143", "0.143"]}, None),
        ({"PixelSpacing": ["0.1431", "0.1430"]}, None),
        ({"PixelSpacing": ["0.143"]}, None),
        ({"PixelSpacing": ["0", "0"]}, None),
        ({"PixelSpacing": ["0", "0.143"]}, "pixel_aspect_unclear"),
        ({"PixelSpacing": ["143", "0.143"]}, "pixel_aspect_unclear"),
        ({"PixelSpacing": ["0.4", "0.2"], "ImagerPixelSpacing": ["0.2", "0.2"]}, "pixel_aspect_unclear"),
    ],
)
def test_square_pixels_and_tags_that_cannot_be_change_nothing(tags: dict[str, Any], oddities: str | None) -> None:
    radiograph = read_radiograph(make_dicom(control(), BitsStored=12, **tags))
    assert radiograph.facts.oddities == oddities
    np.testing.assert_array_equal(prepare(radiograph).pixels, CONTROL.pixels)


@pytest.mark.parametrize(
    ("directions", "view", "oddities"),
    [
        (["L", "F"], "PA", None),
        (["L", "FP"], "AP", None),
        (["R", "F"], "PA", "patient_orientation"),
        (["F", "R"], "AP", "patient_orientation"),
        (["A", "F"], "LL", None),
        (["L"], "PA", None),
    ],
)
def test_a_frontal_view_that_is_said_to_lie_otherwise_is_flagged(
    directions: list[str], view: str, oddities: str | None
) -> None:
    data = make_dicom(control(), BitsStored=12, PatientOrientation=directions, ViewPosition=view)
    assert read_radiograph(data).facts.oddities == oddities


@pytest.mark.parametrize("name", ["native of 16 bits, tags say 12", "grey RGB", "grey palette", "RGB of 16 bits"])
@pytest.mark.parametrize("profile", profile_names())
def test_every_profile_takes_what_was_read(name: str, profile: str) -> None:
    assert prepare(read_radiograph(SAME[name]), profile).pixels.any()


def test_old_rows_have_an_affine_without_an_orientation() -> None:
    row: dict[str, Any] = {
        "scale_y": 1.0,
        "scale_x": 1.0,
        "offset_y": 20.0,
        "offset_x": 16.0,
        "rows": 600,
        "columns": 480,
    }
    assert Affine.of(row) == Affine.of(row | {"orientation": None}) == Affine(**row)


def test_a_maze_of_unknown_elements_takes_no_time() -> None:
    """Every element here may end in three places, at each of which another one begins."""
    start = make_dicom(control(), BitsStored=12)[:2000]
    maze = b"".join(
        bytes((0x19, 0, number % 256, number // 256)) + b"??" + bytes((8, 0)) for number in range(1, 20_000)
    )
    with pytest.raises(RadiographError):
        read_radiograph(with_element(start[: start.index(b"\xe0\x7f\x10\x00")], maze))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_picture_whose_rest_is_zeros_was_not_copied_whole(bits: int, share: float) -> None:
    whole = picture(control() if bits == 16 else eight(control()), "PNG")
    kept = int(share * len(whole))
    with pytest.raises(RadiographError) as caught:
        read_radiograph(whole[:kept] + bytes(len(whole) - kept))
    assert caught.value.reason in (Reason.TRUNCATED, Reason.CORRUPT)


@pytest.mark.parametrize("times", [2, 3])
def test_pixel_data_of_more_samples_than_the_tags_say_is_no_picture(times: int) -> None:
    grey = eight(control())
    with pytest.raises(RadiographError) as caught:
        read_radiograph(make_dicom(grey, PixelData=np.repeat(grey, times, axis=1).tobytes()))
    assert caught.value.reason == Reason.CORRUPT


@pytest.mark.parametrize("value", [63536, 65535, 36863, 4096])
def test_padding_that_is_stored_above_the_bits_is_padding(value: int) -> None:
    pixels = control()
    border = np.ones(pixels.shape, bool)
    border[60:-60, 60:-60] = False
    pixels[border] = value
    radiograph = read_radiograph(make_dicom(pixels, BitsStored=12, PixelPaddingValue=value))
    assert radiograph.valid is not None
    np.testing.assert_array_equal(~radiograph.valid, border)
    np.testing.assert_array_equal(radiograph.stored[~border], control()[~border])
    assert radiograph.facts.oddities is None


@pytest.mark.parametrize("white", [4096, 4200, 5000, 8191, 65535])
def test_a_marker_above_the_bits_stays_brighter_than_all(white: int) -> None:
    pixels = control()
    letter = pixels == 4095
    pixels[letter] = white
    radiograph = read_radiograph(make_dicom(pixels, BitsStored=12))
    assert (radiograph.stored[letter] == white).all()
    np.testing.assert_array_equal(radiograph.stored[~letter], control()[~letter])
    assert radiograph.facts.oddities == "bits"


def test_one_hot_pixel_makes_no_grey_of_colour() -> None:
    rgb = np.stack([control()] * 3, axis=2)
    rgb[300:308, 100:300] = (4095, 0, 0)
    rgb[0, 0] = 65535
    with pytest.raises(RadiographError) as caught:
        read_radiograph(png(rgb))
    assert caught.value.reason == Reason.NOT_GREYSCALE


def test_an_image_with_a_palette_in_its_boxes_is_not_read_as_grey() -> None:
    file = io.BytesIO()
    Image.fromarray(eight(control())).save(file, "JPEG2000", no_jp2=False)
    boxed = file.getvalue()
    header = boxed.index(b"jp2h") - 4
    length = int.from_bytes(boxed[header : header + 4], "big")
    palette = (14).to_bytes(4, "big") + b"pclr" + bytes(6)
    grown = (length + len(palette)).to_bytes(4, "big") + boxed[header + 4 : header + length] + palette
    data = framed(boxed[:header] + grown + boxed[header + length :], JPEG2000Lossless, BitsAllocated=8, BitsStored=8)
    with pytest.raises(RadiographError) as caught:
        read_radiograph(data)
    assert caught.value.reason == Reason.CORRUPT


def _spoiled(jpeg: bytes) -> dict[str, bytes]:
    half = len(jpeg) // 2
    return {
        "cut, and an end marker": jpeg[:half] + b"\xff\xd9",
        "zeros": jpeg[:half] + bytes(len(jpeg) - half),
        "zeros, and an end marker": jpeg[:half] + bytes(len(jpeg) - half - 2) + b"\xff\xd9",
        "a hole": jpeg[:half] + bytes(4096) + jpeg[half + 4096 :],
    }


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("how", _spoiled(bytes(10_000)))
def test_a_jpeg_that_is_not_whole_is_no_picture(how: str, progressive: bool) -> None:
    jpeg = picture(eight(control()), "JPEG", quality=95, progressive=progressive)
    spoiled = _spoiled(jpeg)[how]
    assert read_radiograph(jpeg).facts.oddities is None
    for data in (spoiled, framed(spoiled, JPEGBaseline8Bit, BitsAllocated=8, BitsStored=8, HighBit=7)):
        with pytest.raises(RadiographError) as caught:
            read_radiograph(data)
        assert caught.value.reason in (Reason.TRUNCATED, Reason.CORRUPT)
