"""The pages are true: commands can be typed, links lead somewhere, and what comes from code is as the code has it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pytest
import typer

from cxrgaze_ray.cli import app
from docs.generate.command_line import walk
from docs.generate.notebook import pictures
from docs.generate.pages import NOTEBOOK
from docs.generate.pages import PAGES as WRITTEN
from docs.generate.pages import page as written
from tests.command import Cxrgaze
from tests.dicom_files import gradient, make_dicom
from tests.pages import DOCS, PAGES, ROOT, blocks, commands, name_of, spans
from tests.unit.export.test_export import UIDS, make_scored

README, RESULTS = ROOT / "README.md", DOCS / "how-to" / "results.md"
COMMANDS = dict(walk(typer.main.get_command(app)))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def found(words: list[str]) -> tuple[str, ...]:
    """Return the command that words begin with, after ``cxrgaze``."""
    return next((path for path in COMMANDS if tuple(words[: len(path)]) == path), ())


@pytest.mark.parametrize("name", WRITTEN)
def test_a_page_written_from_code_is_as_the_code_has_it(name: str) -> None:
    fresh = (DOCS / name).read_text(encoding="utf-8") == written(WRITTEN[name])
    assert fresh, f"docs/{name} is stale: run make docs-reference, and commit it"


def test_the_notebooks_pictures_are_as_it_has_them() -> None:
    kept = {path.name: path.read_bytes() for path in NOTEBOOK.parent.glob("*.png")}
    assert kept == pictures(NOTEBOOK), "run make docs-reference, and commit it"


@every_page
def test_every_command_can_be_typed(page: Path) -> None:
    for words in commands(page):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= TARGETS, words
        elif words[1:2] not in (["--help"], ["--version"], ["COMMAND"]):
            path = found(words[1:])
            assert path, words
            COMMANDS[path].make_context("cxrgaze", words[1 + len(path) :])


@every_page
def test_commands_in_the_text_exist_with_their_options(page: Path) -> None:
    for span in spans(page):
        if not re.match(r"cxrgaze [a-z]", span):
            continue
        words = shlex.split(span)[1:]
        groups = {path[0] for path in COMMANDS if len(path) > 1}
        path = found(words)
        assert path or (words[0] in groups and len(words) == 1), span
        known = {one for parameter in COMMANDS[path].params for one in parameter.opts} if path else set()
        assert {word.partition("=")[0] for word in words if word.startswith("--")} - known - {"--help"} == set(), span


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M) if anchor else []
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, target


@every_page
def test_files_that_are_named_are_there(page: Path) -> None:
    named = [span for span in spans(page) if re.fullmatch(r"(jobs|infra|serve_configs|tests|docs)/[\w./-]+", span)]
    assert [one for one in named if not (ROOT / one).exists()] == []


def test_every_variable_of_ours_is_explained() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "cxrgaze_ray").rglob("*.py"))
    told = (DOCS / "reference" / "environment.md").read_text(encoding="utf-8")
    assert {name for name in re.findall(r"\bCXRGAZE_[A-Z0-9_]*[A-Z0-9]\b", source) if f"`{name}`" not in told} == set()


def test_the_readme_is_a_screen_and_a_half_and_says_first_that_it_has_no_weights() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert len(text.split()) <= 700
    title, first, *_ = text.split("\n\n")
    assert title == "# cxrgaze"
    for words in ("without trained weights", "`make demo`", "`cxrgaze train`", "`cxrgaze models import`"):
        assert words in first.replace("\n", " ")
    assert "not for clinical use" in text
    assert "make test " in text, "CI runs the README's test command"


def test_what_is_said_of_results_can_be_done(cxrgaze: Cxrgaze, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_scored(tmp_path, {f"{name}.dcm": make_dicom(gradient(), **UIDS) for name in "ab"})
    monkeypatch.chdir(tmp_path)
    ours = [words for words in commands(RESULTS) if words[:2] == ["cxrgaze", "runs"]]
    assert {words[2] for words in ours} == {"query", "show", "export"}
    for number, words in enumerate(words for words in ours if "png" not in words):  # test_export.py draws
        places = {"RUN": "run", "tables": f"tables-{number}", "overlays": f"overlays-{number}"}
        ended = cxrgaze(*(places.get(word, word) for word in words[1:]))
        assert ended.code == 0, (words, ended.err)


def line(name: str) -> str:
    """Return the documented line of one library, on the run in this folder."""
    (told,) = [one for one in blocks(RESULTS, "python", "r") if one.startswith(name)]
    return told.strip().replace("RUN/", "run/")


def test_other_libraries_read_a_run_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_scored(tmp_path, {"a.dcm": make_dicom(gradient()), "b.dcm": make_dicom(gradient(64, 64))})
    monkeypatch.chdir(tmp_path)

    def answer(name: str, **modules: Any) -> Any:
        return eval(line(name), modules)

    assert answer("pd.", pd=pd).to_dict() == {"pneumonia": 2}
    assert answer("duckdb.", duckdb=duckdb).fetchall() == [("pneumonia", 2)]
    assert answer("pl.", pl=pl).rows() == [("pneumonia", 2)]


def test_r_can_parse_its_line() -> None:
    told = line("table(")
    assert re.fullmatch(r'table\(arrow::read_parquet\("run/summary\.parquet"\)\$prediction\)', told)
    if interpreter := shutil.which("Rscript"):
        subprocess.run([interpreter, "-e", f"parse(text = {told!r})"], check=True, capture_output=True)
