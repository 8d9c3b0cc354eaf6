"""REFLACX is read as its authors wrote it, and its fixations become a density as wide as one degree of view."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from cxrgaze_ray.archive.tables import Limits
from cxrgaze_ray.errors import RadiographError, StoreNotFound, UserError
from cxrgaze_ray.gaze.heatmap import Fixations, Samples, gaze_map, mean_map
from cxrgaze_ray.gaze.reflacx import read_fixations, read_index
from cxrgaze_ray.gaze.sources import find_gaze
from cxrgaze_ray.phantoms.tables import csv_bytes, gaze_table, master_row
from cxrgaze_ray.radiograph.preprocess import fit
from cxrgaze_ray.schemas import Reason
from cxrgaze_ray.storage import LocalStore
from tests.reflacx_files import PhantomReading, write_reflacx
from tests.unit.gaze.test_gaze import moments, scanpath

ONE, TWO, THREE = ("a" * 44, "b" * 44, "c" * 44)
SIZE = (2500, 2000)
AFFINE = fit(*SIZE)
HEADER = "id,eye_tracking_data_discarded,dicom_id,subject_id,image_size_x,image_size_y\n"
FIXATIONS = (
    "timestamp_start_fixation,timestamp_end_fixation,x_position,y_position,"
    "angular_resolution_x_pixels_per_degree,angular_resolution_y_pixels_per_degree\n"
)


def reading(name: str, image_id: str, *places: tuple[float, float, float], subject: str = "10000032") -> PhantomReading:
    """Return a reading with fixations of y, x and seconds."""
    table = np.array(places or [(1000, 900, 0.4), (1200, 1100, 0.2)], np.float64)
    return PhantomReading(name, image_id, subject, SIZE, table[:, :2], table[:, 2])


def looks(*places: tuple[float, float], seconds: float = 1.0, sigma: tuple[float, float] = (40.0, 60.0)) -> Fixations:
    points = np.array(places, np.float64).reshape(-1, 2)
    return Fixations(points, np.full(len(points), seconds), np.tile(sigma, (len(points), 1)))


def metadata(folder: Path, *rows: str, phase: int = 1) -> LocalStore:
    store = LocalStore(str(folder))
    store.put(f"main_data/metadata_phase_{phase}.csv", (HEADER + "".join(f"{row}\n" for row in rows)).encode())
    return store


def test_every_phase_is_read_and_discarded_readings_are_counted(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    phases = [
        [reading("P101R001", ONE), reading("P102R001", ONE), replace(reading("P103R001", ONE), discarded=True)],
        [reading("P201R001", TWO)],
        [reading("P300R001", THREE)],
    ]
    write_reflacx(store, phases)
    index = read_index(store)
    assert index.counts == {
        "readings": 4,
        "readings_discarded": 1,
        "readings_malformed": 0,
        "readings_repeated": 0,
        "images": 3,
        "images_read_more_than_once": 1,
    }
    two, none, one = index.readings_of(pa.array([TWO, "unknown", ONE])).to_pylist()
    assert [found["reading"] for found in one] == ["P101R001", "P102R001"]
    assert two == [{"reading": "P201R001", "rows": SIZE[0], "columns": SIZE[1]}]
    assert none is None


@pytest.mark.parametrize(
    "row",
    [
        f"../../etc,False,{ONE},1,2000,2500",
        f"R/1,False,{ONE},1,2000,2500",
        f",False,{ONE},1,2000,2500",
        "R1,False,../secret,1,2000,2500",
        "R1,False,,1,2000,2500",
        f"R1,False,{ONE},1,,2500",
        f"R1,False,{ONE},1,2000,-1",
        f"R1,False,{ONE},1,2000.5,2500",
        f"R1,False,{ONE},1,2000,1e12",
    ],
)
def test_a_reading_that_can_t_be_one_is_counted_and_left_out(tmp_path: Path, row: str) -> None:
    index = read_index(metadata(tmp_path, row, f"R2,False,{TWO},10000032,2000.0,2500"))
    assert (index.counts["readings"], index.counts["readings_malformed"]) == (1, 1)
    assert index.readings_of(pa.array([TWO])).to_pylist() == [[{"reading": "R2", "rows": 2500, "columns": 2000}]]


def test_a_reading_listed_twice_counts_once(tmp_path: Path) -> None:
    row = f"R1,False,{ONE},1,2000,2500"
    metadata(tmp_path, row)
    index = read_index(metadata(tmp_path, row, phase=2))
    assert (index.counts["readings"], index.counts["readings_repeated"]) == (1, 1)


def test_a_reading_of_two_images_is_of_neither(tmp_path: Path) -> None:
    rows = [f"R1,False,{ONE},1,2000,2500", f"R1,False,{TWO},1,2000,2500", f"R2,False,{TWO},1,2000,2500"]
    index = read_index(metadata(tmp_path, *rows))
    assert index.table["reading"].to_pylist() == ["R2"]
    assert (index.counts["readings"], index.counts["readings_malformed"]) == (1, 2)


def test_readings_of_an_image_are_of_one_patient(tmp_path: Path) -> None:
    rows = [f"R1,False,{ONE},p71,2000,2500", f"R2,False,{ONE},71.0,2000,2500", f"R3,False,{TWO},,2000,2500"]
    index = read_index(metadata(tmp_path, *rows))
    assert index.patients_of(pa.array([TWO, ONE, THREE])).to_pylist() == [None, "71", None]
    with pytest.raises(UserError, match="several patients for 1 images") as refused:
        read_index(metadata(tmp_path, *rows, f"R4,False,{ONE},72,2000,2500"))
    assert "72" not in str(refused.value)


def test_ids_match_whatever_their_case_and_flags_however_they_are_written(tmp_path: Path) -> None:
    rows = [f" R1 ,FALSE, {ONE.upper()} ,1,2000,2500", f"R2,0,{ONE},1,2000,2500", f"R3,perhaps,{ONE},1,2000,2500"]
    index = read_index(metadata(tmp_path, *rows, f"R4,TRUE,{ONE},1,,"))
    assert [one["reading"] for one in index.readings_of(pa.array([ONE.upper()])).to_pylist()[0]] == ["R1", "R2"]
    assert (index.counts["readings_discarded"], index.counts["readings_malformed"]) == (1, 1)


def test_ragged_repeated_and_impossible_fixations_are_counted(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    rows = ["1.0,1.4,900,1000,52,47", "1.0,1.4,900,1000,52,47", "1.5,1.6,901,1000", "2.0,1.9,1,1,52,47"]
    store.put("main_data/R1/fixations.csv", (FIXATIONS + "\n".join([*rows, "3,3.2,inf,1,52,47"])).encode())
    found, counts = read_fixations(store, "R1")
    assert found.inside(AFFINE).tolist() == [True, False, False]
    assert counts == {"fixation_rows_malformed": 1, "fixation_rows_repeated": 1, "fixations_unusable": 2}


def test_a_table_as_a_european_spreadsheet_saves_it_is_the_same_table(tmp_path: Path) -> None:
    plain, saved = LocalStore(str(tmp_path / "plain")), LocalStore(str(tmp_path / "saved"))
    text = FIXATIONS + "1.0,1.4,900.25,1000,52.5,47\n2,2.1,1,2,,3\n"
    plain.put("main_data/R1/fixations.csv", text.encode())
    saved.put(
        "main_data/R1/fixations.csv", text.replace(",", ";").replace(".", ",").replace("\n", "\r\n").encode("utf-16")
    )
    for one, other in zip(*(vars(read_fixations(store, "R1")[0]).values() for store in (plain, saved)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_columns_or_no_metadata_are_a_user_error(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    with pytest.raises(UserError, match="metadata_phase_1"):
        read_index(store)
    store.put("main_data/metadata_phase_2.csv", b"id,dicom_id\nR1,x\n")
    with pytest.raises(UserError, match="image_size_x"):
        read_index(store)


def test_fixations_are_read_with_their_length_and_one_degree(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    store.put("main_data/R1/fixations.csv", (FIXATIONS + "1.0,1.4,900,1000,52,47\n2,2.1,1,2,,3\n").encode())
    found, counts = read_fixations(store, "R1")
    assert counts == {"fixations_unusable": 1}
    np.testing.assert_array_equal(found.points_N2, [[1000, 900], [2, 1]])
    np.testing.assert_allclose(found.seconds_N, [0.4, 0.1])
    np.testing.assert_array_equal(found.sigma_N2, [[47, 52], [3, np.nan]])
    assert found.inside(AFFINE).tolist() == [True, False]


def test_broken_fixation_tables_are_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(str(tmp_path))
    with pytest.raises(StoreNotFound):
        read_fixations(store, "R1")
    for table in (b"a,b\n1,2\n", b"", (FIXATIONS + "1,2,left,4,5,6\n").encode()):
        store.put("main_data/R1/fixations.csv", table)
        with pytest.raises(UserError, match="fixations"):
            read_fixations(store, "R1")
    monkeypatch.setattr("cxrgaze_ray.gaze.reflacx._FIXATION_LIMITS", Limits(table_bytes=10))
    with pytest.raises(UserError, match="more than 10 bytes"):
        read_fixations(store, "R1")
    with pytest.raises(UserError, match="malformed"):
        read_fixations(store, "../R1")


def test_the_width_is_one_degree_on_each_axis() -> None:
    mean, spread = moments(mean_map([looks((1250, 1000), sigma=(90, 140))], AFFINE))
    np.testing.assert_allclose(spread, [90 * AFFINE.scale_y, 140 * AFFINE.scale_x], rtol=0.01)
    np.testing.assert_allclose(mean, AFFINE.to_model(1250, 1000), atol=0.02)


def test_a_fixation_s_mass_is_its_length_whatever_its_width() -> None:
    points, seconds = np.array([(600.0, 500.0), (1900.0, 1500.0)]), np.array([0.9, 0.3])
    one = Fixations(points, seconds, np.array([(40.0, 40.0), (80.0, 80.0)]))
    density = mean_map([one], AFFINE)
    middle = round(1250 * AFFINE.scale_y + AFFINE.offset_y)
    assert density[:middle].sum() == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize("corner", [(0.0, 0.0), (0.0, 1999.9), (2499.9, 1000.0)])
@pytest.mark.parametrize("size", [SIZE, (1500, 3000)])
def test_no_mass_leaks_into_the_padding(size: tuple[int, int], corner: tuple[float, float]) -> None:
    affine = fit(*size)
    at = (min(corner[0], size[0] - 0.1), min(corner[1], size[1] - 0.1))
    density = mean_map([looks(at)], affine)
    top, left = round(affine.offset_y), round(affine.offset_x)
    height, width = affine.content_size
    assert density[top : top + height, left : left + width].sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)


def test_samples_and_fixations_of_one_width_agree() -> None:
    """Two ways to one map: binned counts under a cut kernel, and exact Gaussians."""
    places = np.random.default_rng(0).uniform((400, 400), (2000, 1600), (50, 2))
    exact = mean_map([looks(*map(tuple, places), sigma=(75.5, 75.5))], AFFINE)
    assert np.abs(exact - gaze_map(places, AFFINE)).sum() < 0.05


def test_readers_are_averaged_each_with_the_same_weight() -> None:
    short, long = looks((600, 500), seconds=0.1), looks((1900, 1500), (1900, 1500), seconds=9)
    expected = (mean_map([short], AFFINE) + mean_map([long], AFFINE)) / 2
    np.testing.assert_allclose(mean_map([short, long], AFFINE), expected, atol=1e-9)
    mixed: list[Samples | Fixations] = [Samples(np.array([(600.0, 500.0)])), long]
    assert mean_map(mixed, AFFINE).sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("astray", [(-1.0, 5.0), (2500.0, 5.0), (5.0, 2000.0), (np.nan, 5.0)])
def test_a_reading_off_the_image_does_not_take_part(astray: tuple[float, float]) -> None:
    here = looks((1000, 900))
    np.testing.assert_array_equal(mean_map([here, looks(astray)], AFFINE), mean_map([here], AFFINE))
    np.testing.assert_array_equal(mean_map([looks((1000, 900), astray)], AFFINE), mean_map([here], AFFINE))
    with pytest.raises(RadiographError) as error:
        mean_map([looks(astray)], AFFINE)
    assert error.value.reason == Reason.NO_GAZE_IN_IMAGE


@pytest.mark.parametrize("seconds", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("sigma", [(0.0, 5.0), (5.0, -1.0), (np.nan, 5.0), (np.inf, 5.0)])
def test_a_fixation_without_length_or_width_is_ignored(seconds: float, sigma: tuple[float, float]) -> None:
    for broken in (looks((5, 5), seconds=seconds), looks((5, 5), sigma=sigma)):
        assert not broken.inside(AFFINE).any()


@pytest.mark.parametrize("sigma", [1e-6, 0.1, 1000.0])
def test_extreme_widths_still_give_a_density(sigma: float) -> None:
    density = mean_map([looks((1000, 900), sigma=(sigma, sigma))], AFFINE)
    assert np.isfinite(density).all()
    assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)


def egd(folder: Path, image_id: str, subject: str) -> str:
    store = LocalStore(str(folder))
    row = master_row(image_id, subject, "50414267", 0, "files/x.dcm", "F", 60)
    store.put("master_sheet.csv", csv_bytes(pa.Table.from_pylist([row])))
    store.put("eye_gaze.csv", csv_bytes(gaze_table(image_id, scanpath(1), SIZE, 0)))
    return store.uri


def test_sources_are_told_apart_by_their_files_and_their_overlap_is_counted(tmp_path: Path) -> None:
    first = egd(tmp_path / "egd", ONE, "p10000032")
    second = LocalStore(str(tmp_path / "reflacx"))
    readings = [reading("R1", ONE), reading("R2", TWO), reading("R3", THREE, subject="10000099")]
    write_reflacx(second, [readings])
    sources = find_gaze([second.uri, first])
    assert sources.egd is not None
    assert (sources.egd.uri, list(sources.describe())) == (first, ["egd", "reflacx"])
    counts = sources.read().counts()
    assert (counts["images_in_both_sources"], counts["patients_in_both_sources"]) == (1, 1)
    assert (counts["egd_images_with_gaze"], counts["reflacx_readings"]) == (1, 3)
    with pytest.raises(UserError, match="same data set"):
        find_gaze([first, first])
    with pytest.raises(UserError, match="neither"):
        find_gaze([str(tmp_path)])


def test_whole_columns_are_joined_as_single_images_are(tmp_path: Path) -> None:
    tables = find_gaze([egd(tmp_path, ONE, "10000032")]).read().egd
    assert tables is not None
    ids = pa.chunked_array([[TWO, ONE], [ONE, None]])
    none, once, again, empty = tables.samples_of(ids).to_pylist()
    expected: NDArray[np.float64] = tables.samples(ONE).ravel()
    assert once == again == expected.tolist()
    assert none is None
    assert empty is None
    assert tables.labels_of(ids).to_pylist() == [None, 0, 0, None]
