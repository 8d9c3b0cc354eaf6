"""The pages are built without a dead link and load nothing from a network; the notebook can be run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.generate.notebook import pictures
from docs.generate.pages import NOTEBOOK
from tests.pages import DOCS, ROOT

pytestmark = pytest.mark.long

LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*?\bsrc=[\"']?(?:https?:)?//|<link\b[^>]*?\bhref=[\"']?(?:https?:)?//"
)
"""What a browser would fetch from somewhere else; links that a person may follow are none of it."""


RUN_ON_A_LOOP = """import asyncio

async def cells():
    exec(CELLS, known)

CELLS = {cells!r}
known = {{}}
asyncio.run(cells())
assert known["run"].success.counts == {{"failed": 33, "scored": 12, "skipped": 9}}, known["run"].success.counts
"""
"""Runs cells as Jupyter does, on a thread that has an event loop: not all of Ray can be called there."""


def test_the_pages_are_built_and_load_nothing_from_a_network(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("mkdocs")), "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    built = sorted(tmp_path.rglob("*.html"))
    assert {page.relative_to(tmp_path).with_suffix(".md") for page in built} - {Path("404.md")} == {
        page.relative_to(DOCS) for page in DOCS.rglob("*.md")
    }
    assert [page for page in built if LOADED.search(page.read_text(encoding="utf-8"))] == []
    styles = [sheet.read_text(encoding="utf-8") for sheet in tmp_path.rglob("*.css")]
    assert styles
    assert not any(re.search(r"url\([\"']?(https?:)?//|@import", sheet) for sheet in styles)
    assert list(tmp_path.rglob("*.py")) == []


def test_the_notebook_runs_and_shows_nothing_of_the_machine_it_ran_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    monkeypatch.chdir(NOTEBOOK.parent)
    script = tmp_path / "score.py"
    script.write_text(RUN_ON_A_LOOP.format(cells="\n\n".join(sources)))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(cell.get("outputs") for cell in cells[3:] if cell["cell_type"] == "code"), "it is kept as it was run"
    told = json.dumps([cell.get("outputs", []) for cell in cells])
    assert not re.search(r"/(tmp|home|root|work|usr)/|stderr|Traceback", told)
    assert pictures(NOTEBOOK)
