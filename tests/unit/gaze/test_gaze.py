"""Eye tracking tables are read as they were written, and gaze becomes a density where the reader looked."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.errors import ConfigError, RadiographError, StoreNotFound, UserError
from cxrgaze_ray.gaze.egd import ID_LENGTH, EgdTables, read_egd
from cxrgaze_ray.gaze.heatmap import Fixations, Samples, gaze_map
from cxrgaze_ray.phantoms.scanpath import Scanpath
from cxrgaze_ray.phantoms.tables import calibration_rows, csv_bytes, fixation_table, gaze_table, master_row
from cxrgaze_ray.radiograph.preprocess import fit
from cxrgaze_ray.schemas import HEIGHT, WIDTH, Affine, Reason
from cxrgaze_ray.storage import LocalStore

ONE, TWO, THREE = ("a" * ID_LENGTH, "b" * ID_LENGTH, "c" * ID_LENGTH)
SIZE = (1000, 900)
MASTER = "dicom_id,study_id,patient_id,Normal,CHF,pneumonia\n"
GAZE = "DICOM_ID,X_ORIGINAL,Y_ORIGINAL\n"


def scanpath(seed: int, count: int = 50) -> Scanpath:
    rng = np.random.default_rng(seed)
    return Scanpath(rng.uniform(0, SIZE, (count, 2)), np.repeat(np.arange(count // 10) + 1, 10))


def master(image_id: str, label: int) -> dict[str, object]:
    return master_row(image_id, "10000032", "50414267", label, "files/x.dcm", "F", 60)


def tables(folder: Path, sheet: bytes | str, gaze: bytes | str) -> EgdTables:
    store = LocalStore(str(folder))
    for name, data in (("master_sheet.csv", sheet), ("eye_gaze.csv", gaze)):
        store.put(name, data.encode() if isinstance(data, str) else data)
    return read_egd(store)


def written(folder: Path) -> tuple[EgdTables, dict[str, Scanpath]]:
    """Write two images' tables, rows of the second one before those of the first."""
    paths = {TWO: scanpath(2), ONE: scanpath(1, 30)}
    gaze = [gaze_table(name, path, SIZE, number) for number, (name, path) in enumerate(paths.items())]
    rows = pa.concat_tables([calibration_rows(gaze[0]), *gaze])
    sheet = pa.Table.from_pylist([master(ONE, 1), master(TWO, 2), master(THREE, 0)])
    return tables(folder, csv_bytes(sheet), csv_bytes(rows)), paths


def test_tables_hold_what_was_written(tmp_path: Path) -> None:
    found, paths = written(tmp_path)
    assert found.images_with_gaze == {ONE, TWO}
    for name, path in paths.items():
        np.testing.assert_allclose(found.samples(name), path.samples, atol=0.051)
    assert {name: study.label for name, study in found.studies.items()} == {ONE: 1, TWO: 2, THREE: 0}
    study = found.studies[ONE]
    assert (study.image_id, study.subject_id, study.study_id) == (ONE, "10000032", "50414267")


def test_rows_are_counted(tmp_path: Path) -> None:
    found, _ = written(tmp_path)
    assert found.counts == {
        "gaze_rows": 85,
        "gaze_rows_malformed": 0,
        "gaze_rows_malformed_id": 5,
        "gaze_rows_repeated": 0,
        "gaze_rows_without_place": 0,
        "sheet_rows_malformed": 0,
        "sheet_rows_without_id": 0,
        "sheet_rows_repeated": 0,
        "images_with_gaze": 2,
        "images_in_sheet": 3,
        "gaze_without_study": 0,
        "study_without_gaze": 1,
        "studies_without_label": 0,
    }


def test_shut_eyes_are_off_the_image(tmp_path: Path) -> None:
    path = scanpath(3)
    path.samples[::2] = np.nan
    sheet = csv_bytes(pa.Table.from_pylist([master(ONE, 0)]))
    samples = tables(tmp_path, sheet, csv_bytes(gaze_table(ONE, path, SIZE, 0))).samples(ONE)
    assert (samples[::2] < 0).all()
    np.testing.assert_allclose(samples[1::2], path.samples[1::2], atol=0.051)


def test_an_unknown_image_has_no_samples(tmp_path: Path) -> None:
    assert written(tmp_path)[0].samples("unknown").shape == (0, 2)


def test_samples_keep_their_order_and_empty_cells_are_nan(tmp_path: Path) -> None:
    gaze = GAZE + "".join(f"{name},{x},{x + 0.5}\n" for x in range(200) for name in (TWO, ONE)) + f"{ONE},,7\n"
    samples = tables(tmp_path, MASTER, gaze).samples(ONE)
    np.testing.assert_array_equal(samples[:200, 1], np.arange(200))
    np.testing.assert_array_equal(samples[:200, 0], np.arange(200) + 0.5)
    np.testing.assert_array_equal(samples[200], [7, np.nan])


def test_malformed_ids_are_counted_and_left_out(tmp_path: Path) -> None:
    rows = [f"{ONE},1,2", "calibration,1,2", f"{ONE[:-1]},1,2", f"{ONE}x,1,2", ",1,2"]
    found = tables(tmp_path, MASTER, GAZE + "\n".join(rows) + "\n")
    assert (found.counts["gaze_rows"], found.counts["gaze_rows_malformed_id"]) == (5, 4)
    assert found.images_with_gaze == {ONE}
    assert found.counts["gaze_without_study"] == 1


def test_ragged_rows_are_counted_and_left_out(tmp_path: Path) -> None:
    """A download that stopped, and a row that lost its comma: not a table without the columns."""
    gaze = f"{GAZE}{ONE},1,2\n{ONE},3\n{ONE},5,6,7\n{ONE},7,8\n{ONE},9,9\n{ONE},9"
    sheet = f"{MASTER}{ONE},s1,2,1,0,0\n{TWO},s1,2\n{THREE},s1,2,0,1,0\n"
    found = tables(tmp_path, sheet, gaze)
    np.testing.assert_array_equal(found.samples(ONE), [[2, 1], [8, 7], [9, 9]])
    assert (found.counts["gaze_rows"], found.counts["gaze_rows_malformed"]) == (6, 3)
    assert (list(found.studies), found.counts["sheet_rows_malformed"]) == ([ONE, THREE], 1)


def test_a_table_of_ragged_rows_is_no_table(tmp_path: Path) -> None:
    """Decimal commas that nothing quotes: every number is two cells."""
    with pytest.raises(UserError, match=r"eye_gaze.csv, line 2: 5 cells, and the header has 3"):
        tables(tmp_path, MASTER, f"{GAZE}{ONE},1,5,2,5\n{ONE},1,2,5\n{ONE},1,2\n")


def test_a_sample_that_is_written_twice_counts_once(tmp_path: Path) -> None:
    """The whole file copied below itself; an eye that stands still is two samples of one place."""
    rows = f"{ONE},1,2,100\n{ONE},1,2,101\n{TWO},1,2,100\n"
    header = GAZE.replace("\n", ",TIMETICK(f=10000000)\n")
    once, twice = tables(tmp_path, MASTER, header + rows), tables(tmp_path, MASTER, header + rows + rows)
    assert (once.counts["gaze_rows_repeated"], twice.counts["gaze_rows_repeated"]) == (0, 3)
    for name in (ONE, TWO):
        np.testing.assert_array_equal(once.samples(name), twice.samples(name))
    assert tables(tmp_path, MASTER, f"{GAZE}{ONE},1,2\n{ONE},1,2\n").samples(ONE).shape == (2, 2), (
        "nothing tells them apart"
    )


def test_a_study_twice_counts_once_unless_it_says_something_else(tmp_path: Path) -> None:
    row = f"{ONE},s1,p2,1,0,0\n"
    found = tables(tmp_path, MASTER + row + row.replace("p2", "2.0").upper() + f"{TWO},s1,,0,0,1\n", GAZE)
    assert (list(found.studies), found.counts["sheet_rows_repeated"]) == ([ONE, TWO], 1)
    assert (found.studies[ONE].subject_id, found.studies[TWO].subject_id) == ("2", None)
    for other in ("p3,1,0,0", "p2,0,1,0"):
        with pytest.raises(UserError, match="1 rows"):
            tables(tmp_path, f"{MASTER}{row}{ONE},s1,{other}\n", GAZE)


def test_ids_match_whatever_their_case_and_the_white_space_around_them(tmp_path: Path) -> None:
    found = tables(tmp_path, f"{MASTER} {ONE.upper()} ,s1,2,1,0,0\n", f"{GAZE}{ONE.title()} ,1,2\n")
    assert (found.counts["gaze_without_study"], found.counts["study_without_gaze"]) == (0, 0)
    for spelt in (ONE, ONE.upper()):
        study = found.study(spelt)
        assert study is not None
        assert study.label == 0
        assert found.samples(spelt).tolist() == [[2, 1]]
    ids = pa.array([ONE.upper(), TWO])
    assert found.samples_of(ids).to_pylist() == [[2, 1], None]
    assert found.know(ids).to_pylist() == [True, False]


@pytest.mark.parametrize("spelt", [str.lower, str.upper])
def test_ids_match_where_the_archive_s_are_keyed_hashes(tmp_path: Path, spelt: Callable[[str], str]) -> None:
    keyed = Identities(b"k" * 32)
    found = tables(tmp_path, f"{MASTER}{ONE},s1,2,1,0,0\n{TWO},s1,3,0,1,0\n", f"{GAZE}{TWO},1,2\n")
    ids = pa.array([keyed.of("image", spelt(TWO)), keyed.of("image", THREE), keyed.of("image", spelt(ONE))])
    assert found.labels_of(ids, keyed).to_pylist() == [1, None, 0]
    assert found.patients_of(ids, keyed).to_pylist() == ["3", None, "2"]
    assert found.samples_of(ids, keyed).to_pylist() == [[2, 1], None, None]
    assert found.labels_of(ids).null_count == 3


def test_places_that_are_none_are_counted_and_left_off_the_map(tmp_path: Path) -> None:
    rows = [f"{ONE},{place}" for place in ("500,500", "NaN,1", ",1", "inf,1", "-inf,1", "NA,2", "1e3,2", "-1,-1")]
    found = tables(tmp_path, MASTER, GAZE + "\n".join(rows))
    assert found.counts["gaze_rows_without_place"] == 5
    affine = fit(2500, 2000)
    sound = np.array([(500.0, 500.0), (2.0, 1000.0)])
    np.testing.assert_array_equal(gaze_map(found.samples(ONE), affine), gaze_map(sound, affine))


EUROPEAN = {
    "semicolons": lambda text: text.replace(",", ";").replace(".", ","),
    "tabs": lambda text: text.replace(",", "\t").replace(".", ","),
    "semicolons and points": lambda text: text.replace(",", ";"),
    "declared": lambda text: "sep=;\r\n" + text.replace(",", ";").replace(".", ","),
    "lines of Windows": lambda text: text.replace("\n", "\r\n"),
    "lines of old Macs": lambda text: text.replace("\n", "\r"),
    "no last line end": lambda text: text.removesuffix("\n"),
    "capitals": lambda text: text.upper(),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("way", EUROPEAN)
def test_tables_as_spreadsheets_save_them_are_the_same_tables(tmp_path: Path, way: str, encoding: str) -> None:
    sheet = f"{MASTER}{ONE},s1,p2,1,0,0\n{TWO},s1,p3,0.0,1.0,0.0\n"
    gaze = f"{GAZE}{ONE},1.5,2\n{TWO},-3.25,4e2\n{ONE},,6.75\n"
    plain = tables(tmp_path, sheet, gaze)
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    saved = tables(tmp_path, *(mark + EUROPEAN[way](text).encode(encoding) for text in (sheet, gaze)))
    assert (saved.studies, saved.counts) == (plain.studies, plain.counts)
    for name in (ONE, TWO):
        np.testing.assert_array_equal(saved.samples(name), plain.samples(name))


SECRET = "Mustermann"


@pytest.mark.parametrize(
    ("sheet", "gaze", "where"),
    [
        ("", f"{ONE},1,2\n\n{ONE},{SECRET},2\n", "eye_gaze.csv, line 4, column X_ORIGINAL: no number"),
        (f'{ONE},"s\n1",2,1,0,0\n{TWO},s1,2,1,{SECRET},0\n', "", "master_sheet.csv, line 4, column CHF: no number"),
        (f"{ONE},{SECRET}\n", "", "master_sheet.csv, line 2: 2 cells, and the header has 6"),
        (f"{ONE},{SECRET}\udcfc,2,1,0,0\n", "", "master_sheet.csv, line 2: no UTF-8 text"),
        ("", f'{ONE},1,"1,234"\n{SECRET},1,1\n', "eye_gaze.csv, line 2, column Y_ORIGINAL: no number"),
    ],
)
def test_a_table_that_can_t_be_read_says_where(tmp_path: Path, sheet: str, gaze: str, where: str) -> None:
    with pytest.raises(UserError, match=where) as refused:
        tables(tmp_path, (MASTER + sheet).encode("utf-8", "surrogateescape"), GAZE + gaze)
    assert SECRET not in str(refused.value)
    assert ONE not in str(refused.value)


def test_points_that_may_part_thousands_are_refused(tmp_path: Path) -> None:
    gaze = f"{GAZE}{ONE},1.234,2\n{ONE},3,1\n".replace(",", ";") + f"{ONE};2,5;1\n"
    with pytest.raises(UserError, match=r"eye_gaze.csv, line 2, column X_ORIGINAL: no number\. .*beside points"):
        tables(tmp_path, MASTER, gaze)


def test_a_column_twice_is_refused_and_another_case_is_another_column_only_beside_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="column DICOM_ID twice"):
        tables(tmp_path, MASTER, "dicom_id,Dicom_ID,X_ORIGINAL,Y_ORIGINAL\n")
    found = tables(tmp_path, MASTER, f"dicom_id,DICOM_ID,X_ORIGINAL,Y_ORIGINAL\n{TWO},{ONE},1,2\n")
    assert found.images_with_gaze == {ONE}


def test_reports_may_span_lines(tmp_path: Path) -> None:
    header = MASTER.replace("Normal", "report,Normal")
    sheet = f'{header}{ONE},s1,2,"Clear.\n\nNo ""acute"", finding\n",1,0,0\n{TWO},s3,4,"One line",0,0,1\n'
    studies = tables(tmp_path, sheet, GAZE).studies
    assert {name: study.label for name, study in studies.items()} == {ONE: 0, TWO: 2}


def test_a_long_table_of_reports_is_read_across_blocks(tmp_path: Path) -> None:
    report = "A line\n" * 100
    rows = [f'{index:0{ID_LENGTH}d},s1,p2,"{report}",0,0,1\n' for index in range(4000)]
    found = tables(tmp_path, MASTER.replace("Normal", "report,Normal") + "".join(rows), GAZE)
    assert len(found.studies) == 4000
    assert {study.label for study in found.studies.values()} == {2}


@pytest.mark.parametrize(
    ("marks", "label"),
    [("1,0,0", 0), ("0,1,0", 1), ("0,0,1", 2), ("1.0,0.0,0.0", 0), ("0,0,0", None), ("1,0,1", None), (",,", None)],
)
def test_a_label_needs_exactly_one_mark(tmp_path: Path, marks: str, label: int | None) -> None:
    found = tables(tmp_path, f"{MASTER}{ONE},s1,p2,{marks}\n", GAZE)
    assert found.studies[ONE].label == label
    assert found.counts["studies_without_label"] == (label is None)


@pytest.mark.parametrize("mark", ["yes", "1;0"])
def test_a_mark_that_is_no_number_is_a_user_error(tmp_path: Path, mark: str) -> None:
    with pytest.raises(UserError, match="master_sheet"):
        tables(tmp_path, f"{MASTER}{ONE},s1,p2,{mark},0,0\n", GAZE)


def test_a_coordinate_that_is_no_number_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="eye_gaze"):
        tables(tmp_path, MASTER, f"{GAZE}{ONE},left,2\n")


@pytest.mark.parametrize("name", ["master_sheet.csv", "eye_gaze.csv"])
@pytest.mark.parametrize("data", [b"a,b\n1,2\n", b"", b"\xff\xfe\x00"])
def test_missing_columns_are_a_user_error(tmp_path: Path, name: str, data: bytes) -> None:
    store = LocalStore(str(tmp_path))
    store.put("master_sheet.csv", MASTER.encode())
    store.put("eye_gaze.csv", GAZE.encode())
    store.put(name, data)
    with pytest.raises(UserError, match=name):
        read_egd(store)


def test_a_missing_table_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match="master_sheet"):
        read_egd(LocalStore(str(tmp_path)))


def points(*places: tuple[float, float]) -> NDArray[np.float64]:
    return np.array(places, np.float64)


def moments(density: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the standard deviation, y and x, in model pixels with centres at +0.5."""
    grid = np.mgrid[0 : density.shape[0], 0 : density.shape[1]] + 0.5
    mass = density.astype(np.float64)
    mean = (grid * mass).sum(axis=(1, 2))
    spread = np.sqrt(((grid - mean[:, None, None]) ** 2 * mass).sum(axis=(1, 2)))
    return mean, spread


def content(density: NDArray[np.float32], affine: Affine) -> NDArray[np.float32]:
    top, left = round(affine.offset_y), round(affine.offset_x)
    height, width = affine.content_size
    return density[top : top + height, left : left + width]


@pytest.mark.parametrize("size", [(2500, 2000), (3000, 1500), (1500, 3000)])
@pytest.mark.parametrize("profile", ["paper", "dataset"])
def test_the_peak_is_where_the_reader_looked(size: tuple[int, int], profile: str) -> None:
    affine = fit(*size)
    looked = (0.4 * size[0], 0.6 * size[1])
    density = gaze_map(points(looked), affine, profile)
    assert density.shape == (HEIGHT, WIDTH)
    assert density.dtype == np.float32
    assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    assert density.min() >= 0
    peak = np.array(np.unravel_index(density.argmax(), density.shape)) + 0.5
    np.testing.assert_allclose(peak, affine.to_model(*looked), atol=1)


def test_more_samples_weigh_more() -> None:
    affine = fit(2500, 2000)
    density = gaze_map(points(*[(600, 500)] * 3, (1900, 1500)), affine)
    first, second = (density[int(y * affine.scale_y), int(x * affine.scale_x)] for y, x in ((600, 500), (1900, 1500)))
    assert first / second == pytest.approx(3, rel=1e-3)


@pytest.mark.parametrize("astray", [(-1, 5), (5, -0.01), (2500, 5), (5, 2000), (np.nan, np.nan), (5, np.nan), (-1, -1)])
def test_points_off_the_image_are_ignored(astray: tuple[float, float]) -> None:
    affine = fit(2500, 2000)
    expected = gaze_map(points((1000, 900)), affine)
    np.testing.assert_array_equal(gaze_map(points((1000, 900), astray), affine), expected)
    with pytest.raises(RadiographError) as error:
        gaze_map(points(astray, astray), affine)
    assert error.value.reason == Reason.NO_GAZE_IN_IMAGE


def test_no_points_are_no_gaze() -> None:
    with pytest.raises(RadiographError) as error:
        gaze_map(np.zeros((0, 2)), fit(2500, 2000))
    assert error.value.reason == Reason.NO_GAZE_IN_IMAGE


@pytest.mark.parametrize("size", [(3000, 1500), (1500, 3000), (2500, 2000)])
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0.5), (0.5, 1)])
def test_no_mass_leaks_off_the_edge(size: tuple[int, int], corner: tuple[float, float]) -> None:
    affine = fit(*size)
    looked = tuple(min(share * length, length - 0.01) for share, length in zip(corner, size, strict=True))
    density = gaze_map(points((looked[0], looked[1])), affine)
    inside = content(density, affine)
    assert inside.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    # all of it mirrored back, not rescaled from what a cut would leave: the corner of a mirrored Gaussian is its peak
    assert np.unravel_index(inside.argmax(), inside.shape) == tuple(
        min(int(share * length), length - 1) for share, length in zip(corner, inside.shape, strict=True)
    )


def test_a_point_at_the_edge_is_mirrored_not_cut() -> None:
    affine = fit(2500, 2000)
    middle, edge = (gaze_map(points((1250, x)), affine) for x in (1000.0, 0.0))
    assert edge.max() / middle.max() == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("profile", ["paper", "dataset"])
def test_the_map_is_a_cut_gaussian_of_the_mirrored_counts(profile: str) -> None:
    affine = Affine(scale_y=0.02, scale_x=0.03, offset_y=100, offset_x=50, rows=2000, columns=1000)
    looked = np.random.default_rng(2).uniform(0, (2000, 1000), (30, 2))
    sigma, radius = {"paper": (75.5, 250), "dataset": (150, 600)}[profile]
    y, x = np.mgrid[:40, :30].astype(float)
    expected = np.zeros((40, 30))
    for at_y, at_x in np.floor(looked * (0.02, 0.03)):
        ways = []
        for at, size, scale, grid in ((at_y, 40, 0.02, y), (at_x, 30, 0.03, x)):
            mirrored = [place + 2 * size * turn for turn in (-1, 0, 1) for place in (at, -1 - at)]
            offsets = [grid - place for place in mirrored]
            inside = [np.abs(offset) <= round(radius * scale) for offset in offsets]
            parts = [np.exp(-0.5 * (offset / (sigma * scale)) ** 2) for offset in offsets]
            ways.append(sum(part * near for part, near in zip(parts, inside, strict=True)))
        expected += ways[0] * ways[1]
    density = gaze_map(looked, affine, profile)
    np.testing.assert_allclose(content(density, affine), expected / expected.sum(), rtol=1e-4, atol=1e-9)
    assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("size", [(2500, 2000), (3000, 1800), (1800, 2400)])
def test_the_width_is_sigma_in_source_pixels(size: tuple[int, int]) -> None:
    affine = fit(*size)
    _, spread = moments(gaze_map(points((size[0] / 2, size[1] / 2)), affine))
    np.testing.assert_allclose(spread / [affine.scale_y, affine.scale_x], 75.5, rtol=0.02)


def test_the_width_follows_each_axis_scale() -> None:
    affine = Affine(scale_y=0.3, scale_x=0.15, offset_y=0, offset_x=0, rows=2000, columns=3000)
    _, spread = moments(gaze_map(points((1000, 1500)), affine))
    np.testing.assert_allclose(spread, [75.5 * 0.3, 75.5 * 0.15], rtol=0.02)


def test_the_data_sets_profile_is_wider() -> None:
    affine = fit(3000, 2400)
    spreads = [moments(gaze_map(points((1500, 1200)), affine, name))[1] for name in ("paper", "dataset")]
    np.testing.assert_allclose(spreads[1] / spreads[0], 150 / 75.5, rtol=0.03)


def test_a_gaussian_wider_than_the_image_is_mirrored_again_and_again() -> None:
    density = content(gaze_map(points((30, 40)), fit(100, 80), "dataset"), fit(100, 80))
    assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    assert density.max() / density.min() == pytest.approx(1, abs=0.05)


def test_moved_points_move_the_map() -> None:
    affine = fit(2560, 2048)  # four source pixels a model pixel
    looked = np.random.default_rng(0).uniform((1000, 800), (1400, 1100), (40, 2))
    before, after = (gaze_map(looked + moved, affine) for moved in points((0, 0), (4 * 30, -4 * 20)))
    np.testing.assert_allclose(after, np.roll(before, (30, -20), (0, 1)), atol=1e-9)


def test_the_centre_of_mass_is_the_points() -> None:
    affine = fit(2560, 2048)
    looked = np.random.default_rng(1).uniform((900, 700), (1600, 1300), (200, 2))
    mean, _ = moments(gaze_map(looked, affine))
    np.testing.assert_allclose(mean, affine.to_model(*looked.mean(axis=0)), atol=0.2)


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(ConfigError, match="profile wide"):
        gaze_map(points((1, 1)), fit(10, 10), "wide")


def test_fixations_are_means_and_durations() -> None:
    path = scanpath(5)
    path.samples[:3] = np.nan
    path.samples[10:20] = np.nan  # a whole fixation with shut eyes
    rows: list[dict[str, Any]] = fixation_table(ONE, path, SIZE, 0).to_pylist()
    assert [row["FPOGID"] for row in rows] == [1, 3, 4, 5]
    assert rows[0]["FPOGD"] == pytest.approx(10 / 60, abs=1e-4)
    means = [path.samples[3:10].mean(axis=0), *(path.samples[i : i + 10].mean(axis=0) for i in (20, 30, 40))]
    np.testing.assert_allclose([[row["Y_ORIGINAL"], row["X_ORIGINAL"]] for row in rows], means, atol=0.051)


@given(st.integers(0, 10_000), st.integers(1, 60))
def test_looks_lie_on_the_model_image_and_add_up(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    affine = fit(*rng.integers(300, 3000, 2).tolist())
    points = rng.uniform(-0.1, 1.1, (count, 2)) * affine.upright
    points[rng.random(count) < 0.1] = np.nan
    samples, seconds = Samples(points), rng.uniform(0.1, 1, count)
    fixations = Fixations(points, seconds, np.full((count, 2), 40.0))
    inside = samples.inside(affine)
    for reading, weight in ((samples, inside.sum()), (fixations, seconds[inside].sum())):
        looks = reading.looks(affine)
        assert looks["weight"].sum() == pytest.approx(weight, rel=1e-5)
        places = list(zip(looks["y"].tolist(), looks["x"].tolist(), strict=True))
        assert places == sorted(set(places))
        expected = {(int(y), int(x)) for y, x in (affine.to_model(*point) for point in points[inside])}
        assert all(min(abs(y - v) + abs(x - u) for v, u in expected) <= 1 for y, x in places)
