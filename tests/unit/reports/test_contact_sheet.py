"""The contact sheet: which files are on it, what their captions say, and what catches the eye."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from cxrgaze_ray.archive.manifest import list_archive
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.radiograph.preprocess import profile_names
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.reports.contact_sheet import THUMB, Tile, caption, draw, make_sheet, sample_rows
from cxrgaze_ray.schemas import REASON_HELP, Reason
from tests.awkward_files import turned
from tests.command import Cxrgaze
from tests.dicom_files import CANARY, gradient, make_dicom, picture

RED, YELLOW, ORANGE = (255, 66, 66), (250, 204, 72), (255, 158, 84)
PICTURE = np.full(THUMB, 128, np.uint8)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return five files: a DICOM, one of two frames, a JPEG, a PNG, and one that ends early."""
    folder = tmp_path_factory.mktemp(CANARY)
    whole = make_dicom(gradient(), BitsStored=12)
    files = {
        "a.dcm": whole,
        "b.dcm": make_dicom(gradient(), NumberOfFrames=2),
        "c.jpg": picture((gradient() >> 4).astype(np.uint8), "JPEG"),
        "d.png": picture((gradient() >> 4).astype(np.uint8), "PNG"),
        "e.dcm": whole[: len(whole) * 3 // 5],
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"))


def holds(png: bytes, colour: tuple[int, int, int]) -> int:
    return int((pixels_of(png) == colour).all(axis=2).sum())


@pytest.mark.parametrize(("rows", "count"), [(1000, 24), (25, 24), (24, 24), (3, 24), (1, 1)])
def test_a_sample_is_spread_over_the_archive_and_repeats(rows: int, count: int) -> None:
    table = pa.table({"place": range(rows)})
    places = sample_rows(table, count, 5)["place"].to_pylist()
    taken = min(rows, count)
    assert len(places) == taken
    assert [place * taken // rows for place in places] == pytest.approx(range(taken), abs=1)
    assert sorted(set(places)) == places
    assert sample_rows(table, count, 5)["place"].to_pylist() == places
    if rows == 1000:
        assert sample_rows(table, count, 6)["place"].to_pylist() != places


def test_an_empty_archive_gives_no_sample() -> None:
    assert sample_rows(pa.table({"place": pa.array([], pa.int64())}), 24, 0).num_rows == 0


def test_a_sheet_counts_what_is_on_it(archive: Path) -> None:
    told: list[tuple[int, int]] = []
    sheet = make_sheet(list_archive(str(archive)), ["cxrgaze-v1"], on_progress=lambda *of: told.append(of))
    assert (sheet.files, sheet.sampled, sheet.shown) == (5, 5, 3)
    assert sheet.reasons == {"multi_frame": 1, "truncated": 1}
    assert sum(sheet.polarity.values()) == 5
    assert told == [(done, 5) for done in range(6)]
    assert pixels_of(sheet.png).shape[1] > 5 * THUMB[1]
    assert holds(sheet.png, ORANGE) > 2 * THUMB[1]


def test_the_same_seed_gives_the_same_bytes(archive: Path) -> None:
    one, other = (make_sheet(list_archive(str(archive)), ["cxrgaze-v1"], sample=3, seed=4) for _ in range(2))
    assert one == other
    assert one.sampled == 3


def test_profiles_stand_side_by_side(archive: Path) -> None:
    sheet = make_sheet(list_archive(str(archive)), profile_names())
    height, width = pixels_of(sheet.png).shape[:2]
    assert height > 5 * THUMB[0]
    assert 4 * THUMB[1] < width < 5 * THUMB[1]
    assert (sheet.shown, sheet.reasons) == (3, {"multi_frame": 1, "truncated": 1})


def test_a_file_that_is_gone_has_a_tile(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes((archive / "a.dcm").read_bytes())
    manifest = list_archive(str(tmp_path))
    (tmp_path / "a.dcm").unlink()
    assert make_sheet(manifest, ["cxrgaze-v1"]).reasons == {"missing": 1}


def test_a_profile_that_needs_every_pixel_is_not_combined_with_reduced_decoding(archive: Path) -> None:
    with pytest.raises(ConfigError, match="released-v1"):
        make_sheet(list_archive(str(archive)), ["released-v1"], reading=Reading(reduced=True))


@pytest.mark.parametrize(("polarity", "colour"), [("disagrees", RED), ("unsure", YELLOW)])
def test_a_doubtful_polarity_is_framed(polarity: str, colour: tuple[int, int, int]) -> None:
    marked = draw("", "", [[Tile(("a",), PICTURE, polarity=polarity)]])
    assert holds(marked, colour) > 20 * THUMB[1]
    for sound in ("agrees", None):
        assert not holds(draw("", "", [[Tile(("a",), PICTURE, polarity=sound)]]), colour)


def test_what_is_odd_about_a_file_stands_on_its_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(turned(6, "PNG"))
    sheet = make_sheet(list_archive(str(tmp_path)), ["cxrgaze-v1"])
    assert sheet.oddities == {"turned": 1}
    assert holds(sheet.png, YELLOW) > 10 * THUMB[1]
    assert not holds(draw("", "", [[Tile(("a",), PICTURE)]]), YELLOW)


def test_pictures_are_shown_as_they_are() -> None:
    shown = np.add.outer(np.arange(THUMB[0]) // 2, np.arange(THUMB[1]) // 2).astype(np.uint8)
    sheet = pixels_of(draw("title", "counts", [[Tile(("a",), shown)]]))
    windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], THUMB)
    assert any(np.array_equal(window, shown) for row in windows for window in row[20:30])


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_can_be_drawn(reason: Reason) -> None:
    empty = draw("", "", [[Tile(("a",))]])
    assert draw("", "", [[Tile(("a",), reason=reason)]]) != empty
    assert REASON_HELP[reason]


@pytest.mark.parametrize("count", [0, 1, 6, 7, 13])
def test_any_number_of_tiles_fits(count: int) -> None:
    image = pixels_of(draw("t" * 300, "c " * 300, [[Tile(("w" * 200, "x"), PICTURE)]] * count))
    assert (image == 128).all(axis=2).sum() == count * PICTURE.size


def test_a_caption_holds_closed_words_only() -> None:
    row = {"image_id": "0123456789abcdef", "uri": f"/x/{CANARY}.dcm", "view_position": None, "format": "dicom"}
    facts = {
        "view_position": "PA", "photometric": "MONOCHROME1", "bits_stored": 12, "rows": 3056, "columns": 2544,
        "decode": "1/2", "manufacturer": CANARY, "device_model": CANARY, "age_band": "60-69", "sex": "F",
    }  # fmt: skip
    assert caption(row, facts) == ("01234567  PA", "MONOCHROME1  12 bit", "dicom  3056x2544  1/2")
    assert caption(row, facts, "voi-v1")[0] == "01234567  voi-v1"
    assert caption(row, {}) == ("01234567  view unknown", "dicom")


def test_nothing_on_a_sheet_comes_from_tags_or_paths(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def note(_pen: Any, _place: Any, text: str, *_: Any, **__: Any) -> int:
        written.append(text)
        return 0

    monkeypatch.setattr("cxrgaze_ray.reports.contact_sheet._write", note)
    make_sheet(list_archive(str(archive)), ["cxrgaze-v1"])
    assert len(written) > 15
    assert not [text for text in written if CANARY in text or str(archive) in text or ".dcm" in text]


# the command


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the user's key file out of it."""
    monkeypatch.setenv("CXRGAZE_PSEUDONYMS", str(tmp_path / "key"))


def test_the_command_writes_a_png_and_counts(cxrgaze: Cxrgaze, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    ended = cxrgaze("archive", "look", archive, "--out", out, "--json")
    assert ended.code == 0
    assert {**ended.json, "polarity": None} == {
        "out": str(out),
        "profiles": ["cxrgaze-v1"],
        "files": 5,
        "sampled": 5,
        "shown": 3,
        "reasons": {"multi_frame": 1, "truncated": 1},
        "polarity": None,
        "oddities": {},
    }
    assert pixels_of(out.read_bytes()).any()
    ended = cxrgaze("archive", "look", archive, "--out", out, "--compare", "--sample", "2")
    assert ended.out.startswith(f"{out}: ")
    assert "of 2 files shown, of 5 in the archive." in ended.out


def test_the_command_takes_the_profile_of_a_model(cxrgaze: Cxrgaze, archive: Path, tmp_path: Path) -> None:
    from cxrgaze_ray.models.bundle import make_bundle, write_bundle
    from cxrgaze_ray.models.gazenet import PRESETS
    from cxrgaze_ray.models.zoo import build
    from cxrgaze_ray.storage import LocalStore

    bundle = make_bundle(build(PRESETS["tiny"]), "m", trained=False, profile="mimic-jpg-v1")
    write_bundle(LocalStore(str(tmp_path / "bundle")), bundle)
    out = tmp_path / "sheet.png"
    ended = cxrgaze("archive", "look", archive, "--model", tmp_path / "bundle", "--out", out, "--json")
    assert json.loads(ended.out)["profiles"] == ["mimic-jpg-v1"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--profile", "other"], "no profile other"),
        (["--profile", "voi-v1", "--compare"], "exclude each other"),
        (["--profile", "released-v1", "--decode", "reduced"], "Leave --decode reduced out"),
        (["--sample", "0"], ""),
    ],
)
def test_wrong_options_are_the_users_error(
    cxrgaze: Cxrgaze, archive: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    ended = cxrgaze("archive", "look", archive, "--out", tmp_path / "sheet.png", *options)
    assert ended.code == 2
    assert says in ended.err
    assert not (tmp_path / "sheet.png").exists()
