"""Markdown out of docstrings and tables."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(one) for one in line) + " |" for line in lines) + "\n"


def cell(text: str) -> str:
    """Return a text fit for a cell: in one line, its bars escaped."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def code(text: object) -> str:
    """Return a value as code; nothing for None."""
    return "" if text is None else f"`{text}`"


def prose(doc: str | None) -> str:
    """Return a docstring's paragraphs as Markdown: ``code`` and `code` alike."""
    return inspect.cleandoc(doc or "").replace("``", "`")


def remarks(module: ModuleType, kind: str | None = None) -> dict[str, str]:
    """Return the docstrings below the constants of a module, or the fields of its class: Python itself drops them."""
    body: list[ast.stmt] = _parsed(module.__file__ or "").body
    if kind is not None:
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == kind)
    told = {}
    for node, after in pairwise(body):
        said = after.value if isinstance(after, ast.Expr) else None
        if (name := _assigned(node)) and isinstance(said, ast.Constant) and isinstance(said.value, str):
            told[name] = prose(said.value)
    return told


def _assigned(node: ast.stmt) -> str | None:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return next((target.id for target in targets if isinstance(target, ast.Name)), None)


@cache
def _parsed(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text(encoding="utf-8"))
