"""A notebook as a page: its text, its code, and what came out when it was run."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from docs.generate.text import table


def notebook(file: Path) -> str:
    """Return a notebook's page; it shows `pictures` beside it."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    shown = [_cell(cell, number, file.stem) for number, cell in enumerate(cells)]
    first, *rest = shown
    return "\n\n".join([first, f"The [notebook itself]({file.name}) can be opened in Jupyter.", *rest])


def pictures(file: Path) -> dict[str, bytes]:
    """Return the pictures that came out of a notebook, by their names beside it."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return {
        _picture_name(file.stem, number): base64.b64decode(_joined(data["image/png"]))
        for number, cell in enumerate(cells)
        for data in _data(cell)
        if "image/png" in data
    }


def _picture_name(stem: str, number: int) -> str:
    return f"{stem}-{number}.png"


def _cell(cell: dict[str, Any], number: int, stem: str) -> str:
    source = _joined(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *(_output(data, number, stem) for data in _data(cell))])


def _output(data: dict[str, Any], number: int, stem: str) -> str:
    if "image/png" in data:
        return f"![What the cell above shows]({_picture_name(stem, number)})"
    if "text/html" in data:
        rows = _Rows()
        rows.feed(_joined(data["text/html"]))
        return table(rows.rows[0], rows.rows[1:])
    return f"```text\n{_joined(data['text/plain'])}\n```"


def _data(cell: dict[str, Any]) -> list[dict[str, Any]]:
    return [output["data"] for output in cell.get("outputs", []) if "data" in output]


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


class _Rows(HTMLParser):
    """The cells of the table that pandas shows."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
        self._inside = tag in {"td", "th"}

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self._inside and self.rows:
            self.rows[-1][-1] += re.sub(r"([*_<])", r"\\\1", data)
