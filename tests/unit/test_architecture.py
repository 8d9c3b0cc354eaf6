"""The plan in docs/explanation/architecture.md names the rooms that exist, in the layers that are enforced."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "cxrgaze_ray"
PLAN = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
FLOW = (ROOT / "docs" / "explanation" / "architecture.svg").read_text()

ROWS = re.findall(r"^\| (\d+) \| `([a-z_]+)(/|\.py)` \|", PLAN, re.M)


def rooms() -> set[str]:
    return {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def test_it_names_the_rooms_that_exist_and_no_others() -> None:
    assert {name for _, name, kind in ROWS if kind == "/"} == rooms()
    files = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    assert {name for _, name, kind in ROWS if kind == ".py"} == files
    assert set(re.findall(r">([a-z_]+)/<", FLOW)) == rooms(), "the picture is redrawn with its rooms"


def test_its_layers_are_those_that_are_enforced() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    enforced = [{name.strip() for name in layer.split("|")} for layer in layers if layer != "__main__"]
    told: dict[int, set[str]] = {}
    for layer, name, _ in ROWS:
        told.setdefault(int(layer), set()).add(name)
    assert [told[layer] for layer in sorted(told, reverse=True)] == enforced


def test_every_file_that_it_sends_a_reader_to_is_there() -> None:
    named = set(re.findall(r"`([a-z_]+/[a-z_/]+(?:\.py|/))`", PLAN))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (PACKAGE / name).exists() and not (ROOT / name).exists()] == []


def test_every_room_says_what_it_is_for() -> None:
    said = {
        path.parent.name: path.read_text().partition('"""')[2].partition('"""')[0]
        for path in PACKAGE.glob("*/__init__.py")
    }
    silent = [name for name, text in said.items() if len(text.strip().splitlines()) < 3]
    assert silent == [], "what it is for, what may be imported from it, what it must not know"


def test_the_top_of_the_package_stays_readable() -> None:
    assert len(rooms()) <= 25
