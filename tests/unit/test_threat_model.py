"""Each threat in the threat model has a test that covers it, and that test exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "explanation" / "threat-model.md").read_text()
ROWS = [row for row in TEXT.partition("## Threats")[2].splitlines() if row.startswith("| ")][1:]


def test_every_threat_names_a_test_that_exists() -> None:
    assert len(ROWS) > 20
    for row in ROWS:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row.split("|")[3])
        assert named, row
        for path, name in named:
            tree = ast.parse((ROOT / path).read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (path, name)


def test_it_is_two_pages() -> None:
    assert len(TEXT.split()) < 1700
