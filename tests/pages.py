"""The pages people read: where they are, and the commands and code in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)


def name_of(page: Path) -> str:
    """Return a page's place in the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[str]:
    """Return a page's fenced blocks in these languages, without their indent."""
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [re.sub(rf"^{indent}", "", body, flags=re.M) for indent, language, body in found if language in languages]


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every command that a page's blocks tell to type, without comments and redirections."""
    for block in blocks(page, "sh", "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            typed, words = line.removeprefix("$ ").strip(), list[str]()
            if not re.match(r"(cxrgaze|make)\b", typed):
                continue
            for word in [*shlex.split(typed, comments=True), "&&"]:
                if word not in {"&&", ";", "|"}:
                    words.append(word)
                    continue
                if words and words[0] in {"cxrgaze", "make"}:
                    yield words[: words.index(">")] if ">" in words else words
                words = []


def spans(page: Path) -> list[str]:
    """Return a page's inline code."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [re.sub(r"\s+", " ", span) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
