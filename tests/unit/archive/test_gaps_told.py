"""What a listing could not look into is told: by name to a person, by number to a log."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from cxrgaze_ray.archive.manifest import list_archive
from cxrgaze_ray.cli import app, gaps
from cxrgaze_ray.cli.gaps import Gaps
from tests.unit.archive.test_gaps import link, put_bytes
from tests.unit.archive.test_manifest import put
from tests.unprivileged import as_nobody, public_folder


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    sentences: list[str] = []
    monkeypatch.setattr(gaps, "say", sentences.append)
    return sentences


@pytest.mark.parametrize("watched", [True, False], ids=["terminal", "log"])
def test_closed_folders_are_named_on_a_terminal_only(
    said: list[str], monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    monkeypatch.setattr(gaps, "terminal", lambda: SimpleNamespace(is_terminal=watched))
    with public_folder() as root:
        put(root, "x.dcm")
        for name in ("M\u00fcller", "esc\x1b[31m", "two\nlines"):
            (root / name).mkdir()
            (root / name).chmod(0)
        with as_nobody():
            Gaps().tell(list_archive(str(root)))
    (sentence,) = said
    assert sentence.startswith("Warning: 3 folders of the archive could not be listed: what lies in them has no row.")
    assert sentence.endswith("'M\u00fcller', 'esc\\x1b[31m', 'two\\nlines'.") is watched
    assert ("ller" in sentence) is watched


def test_many_closed_folders_are_not_all_named(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "terminal", lambda: SimpleNamespace(is_terminal=True))
    with public_folder() as root:
        put(root, "x.dcm")
        for number in range(30):
            (root / f"{number:02d}").mkdir(mode=0)
        with as_nobody():
            Gaps().tell(list_archive(str(root)))
    assert said[0].endswith("'19' and 10 more.")


def test_links_that_were_not_followed_are_told_with_the_option(said: list[str], tmp_path: Path) -> None:
    put(tmp_path / "a", "x.dcm")
    Gaps().tell(list_archive(str(tmp_path / "a")))
    assert said == []
    link(tmp_path / "a" / "out", tmp_path)
    Gaps().tell(list_archive(str(tmp_path / "a")))
    assert [sentence.split(".")[0] for sentence in said] == ["1 link leads out of the archive"]
    assert "--follow-links" in said[0]


def test_a_listing_counts_what_stands_in_the_place_of_files(tmp_path: Path) -> None:
    put(tmp_path / "a", "x.dcm")
    put(tmp_path / "other", "y.dcm")
    link(tmp_path / "a" / "out", tmp_path / "other")
    link(tmp_path / "a" / "gone.dcm", "nowhere")
    found = CliRunner().invoke(app, ["archive", "list", str(tmp_path / "a")])
    lines = [line.split()[:3] for line in found.stdout.splitlines()]
    assert ["missing", "1", "listed,"] in lines
    assert ["links", "outside", "1"] in lines
    found = CliRunner().invoke(app, ["archive", "list", str(tmp_path / "a"), "--follow-links", "--json"])
    assert '"files": 3' in found.stdout
    assert '"links_outside": 0' in found.stdout


def test_a_folder_of_any_bytes_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "M\udcfcller"
    odd.mkdir()
    put_bytes(odd, b"\xff.dcm")
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["archive", "list", odd.name, "--json"])
    assert f'"uri": "file://{tmp_path}/M%FCller"' in found.stdout
