"""Order of the values' steps: mask, Modality LUT, VOI, then polarity; and what counts as a window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from cxrgaze_ray.radiograph.reading import LookUpTable, Radiograph, Window, read_radiograph
from tests.dicom_files import gradient, make_dicom

PIXELS = gradient(bits=12)


def read(**tags: Any) -> Radiograph:
    return read_radiograph(make_dicom(PIXELS, BitsStored=12, **tags))


def table(entries: int, first: int, bits: int, values: np.ndarray[Any, Any]) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [entries % 65536, first % 65536, bits])
    item.add_new("LUTData", "OW", values.tobytes())
    return [item]


def test_linear_as_the_standard_writes_it() -> None:
    values = np.array([-10, 0, 99.5, 100, 149.5, 150, 198, 199, 500], np.float32)
    shown = Window(150, 100).apply(values)
    expected = np.clip((values - (150 - 0.5)) / 99 + 0.5, 0, 1)  # PS3.3 C.11.2.1.2.1
    np.testing.assert_allclose(shown, expected, atol=1e-6)
    assert shown.dtype == np.float32


def test_a_width_of_one_is_a_step() -> None:
    assert Window(10, 1).apply(np.array([9, 10, 11], np.uint16)).tolist() == [0, 1, 1]


def test_linear_exact_and_sigmoid() -> None:
    values = np.array([0, 50, 100, 200], np.uint16)
    np.testing.assert_allclose(Window(100, 200, "LINEAR_EXACT").apply(values), [0, 0.25, 0.5, 1])
    expected = 1 / (1 + np.exp(-4 * (values.astype(float) - 100) / 200))
    np.testing.assert_allclose(Window(100, 200, "SIGMOID").apply(values), expected, atol=1e-6)
    assert np.isfinite(Window(0, 1e-3, "SIGMOID").apply(values)).all()


@pytest.mark.parametrize(
    ("tags", "window"),
    [
        ({"WindowCenter": "2000", "WindowWidth": "1000"}, Window(2000, 1000)),
        ({"WindowCenter": ["2000", "3"], "WindowWidth": ["1000", "4"]}, Window(2000, 1000)),
        ({"WindowCenter": "2000", "WindowWidth": "8", "VOILUTFunction": "SIGMOID"}, Window(2000, 8, "SIGMOID")),
        ({"WindowCenter": "2", "WindowWidth": "0.5", "VOILUTFunction": "LINEAR_EXACT"}, Window(2, 0.5, "LINEAR_EXACT")),
        ({"WindowCenter": "2000", "WindowWidth": "0.5"}, None),
        ({"WindowCenter": "2000", "WindowWidth": "0"}, None),
        ({"WindowCenter": "2000", "WindowWidth": "-5", "VOILUTFunction": "SIGMOID"}, None),
        ({"WindowCenter": "2000"}, None),
        ({"WindowWidth": "2000"}, None),
        ({"WindowCenter": "2000", "WindowWidth": "10", "VOILUTFunction": "CUBIC"}, None),
        ({"WindowCenter": "1e300", "WindowWidth": "1e300"}, None),
        ({}, None),
    ],
)
def test_which_window_is_read(tags: dict[str, Any], window: Window | None) -> None:
    assert read(**tags).voi == window


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_the_table_comes_before_the_window(syntax: str) -> None:
    values = (np.arange(4096) ** 2 >> 8).astype("<u2")
    data = make_dicom(
        PIXELS, syntax, BitsStored=12, VOILUTSequence=table(4096, 0, 16, values), WindowCenter="5", WindowWidth="9"
    )
    radiograph = read_radiograph(data)
    assert isinstance(radiograph.voi, LookUpTable)
    np.testing.assert_allclose(radiograph.voi.apply(radiograph.pixels), values[PIXELS] / 65535, atol=1e-6)


def test_a_table_in_a_big_endian_file() -> None:
    values = np.arange(4096, dtype=">u2")
    radiograph = read_radiograph(
        make_dicom(PIXELS, ExplicitVRBigEndian, BitsStored=12, VOILUTSequence=table(4096, 0, 12, values))
    )
    assert radiograph.voi is not None
    np.testing.assert_allclose(radiograph.voi.apply(radiograph.pixels), PIXELS / 4095, atol=1e-6)


def test_values_beyond_the_table_take_its_ends_and_first_may_be_negative() -> None:
    lut = LookUpTable(65536 - 2, np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    values = np.array([-9, -2, -1, 0, 1, 9], np.float32)
    np.testing.assert_allclose(lut.apply(values), [0.1, 0.1, 0.2, 0.3, 0.4, 0.4])


@pytest.mark.parametrize(("entries", "bits", "count"), [(4096, 16, 10), (4096, 40, 4096), (0, 16, 4096)])
def test_a_broken_table_is_no_table(entries: int, bits: int, count: int) -> None:
    item = table(entries, 0, bits, np.ones(count, "<u2"))
    assert read(VOILUTSequence=item, WindowCenter="5", WindowWidth="9").voi == Window(5, 9)


def test_voi_takes_values_after_mask_and_rescale_and_before_polarity() -> None:
    data = make_dicom(
        PIXELS | 0xA000, BitsStored=12, RescaleSlope="2", RescaleIntercept="-1000", WindowCenter="2000",
        WindowWidth="4000", VOILUTFunction="LINEAR_EXACT", PhotometricInterpretation="MONOCHROME1",
    )  # fmt: skip
    radiograph = read_radiograph(data)
    assert radiograph.inverted
    assert radiograph.voi is not None
    expected = np.clip((PIXELS * 2.0 - 1000 - 2000) / 4000 + 0.5, 0, 1)
    np.testing.assert_allclose(radiograph.voi.apply(radiograph.pixels), expected, atol=1e-6)


@pytest.mark.parametrize("shape", ["INVERSE", "IDENTITY", "ODD"])
def test_presentation_lut_shape_is_recorded_and_never_obeyed(shape: str) -> None:
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        radiograph = read(PhotometricInterpretation=photometric, PresentationLUTShape=shape)
        assert radiograph.inverted is (photometric == "MONOCHROME1")
        assert radiograph.facts.presentation_lut_shape == (None if shape == "ODD" else shape)
