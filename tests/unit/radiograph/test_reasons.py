"""The handbook's tables say what the code says, and name tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from cxrgaze_ray.radiograph.pixel_data.codecs import codec_table
from cxrgaze_ray.radiograph.preprocess import profile_names
from cxrgaze_ray.schemas import ODDITY_HELP, REASON_HELP, Reason, status_of

ROOT = Path(__file__).parents[3]
HANDBOOK = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| (scored|skipped|failed) \| (.+?) \| `(\w+)\.py::(\w+)` \|$", HANDBOOK, re.MULTILINE)


def test_every_reason_stands_in_the_table_once() -> None:
    assert [row[0] for row in ROWS] == [str(reason) for reason in Reason]


@pytest.mark.parametrize(("reason", "status", "help_text", "file", "test"), ROWS)
def test_a_row_of_the_table_is_true(reason: str, status: str, help_text: str, file: str, test: str) -> None:
    assert status == status_of(reason)
    assert help_text == REASON_HELP[Reason(reason)]
    (path,) = (ROOT / "tests").rglob(f"{file}.py")
    source = path.read_text(encoding="utf-8")
    tests = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    assert test in tests
    assert f"Reason.{Reason(reason).name}" in source or f'"{reason}"' in source


def test_every_oddity_is_described() -> None:
    for oddity, text in ODDITY_HELP.items():
        assert f"| `{oddity}` | {text} |" in HANDBOOK


def test_the_table_of_codecs_is_the_one_of_the_code() -> None:
    assert codec_table() in HANDBOOK


def test_every_profile_is_described() -> None:
    for name in profile_names():
        assert f"| `{name}` |" in HANDBOOK
