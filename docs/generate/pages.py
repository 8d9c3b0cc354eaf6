"""The generated pages by their places."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from docs.generate.command_line import command_line
from docs.generate.environment import environment
from docs.generate.files import columns, metrics, oddities, profiles, reasons, transfer_syntaxes
from docs.generate.http import http
from docs.generate.notebook import notebook, pictures
from docs.generate.settings import settings

DOCS = Path(__file__).parents[1]
NOTEBOOK = DOCS / "notebooks" / "score.ipynb"

_NOTE = "<!-- Written by `make docs-reference` from the code: change it there. -->\n"

PAGES: dict[str, Callable[[], str]] = {
    "notebooks/score.md": lambda: notebook(NOTEBOOK),
    "reference/cli.md": command_line,
    "reference/http.md": http,
    "reference/settings.md": settings,
    "reference/columns.md": columns,
    "reference/reasons.md": reasons,
    "reference/oddities.md": oddities,
    "reference/transfer-syntaxes.md": transfer_syntaxes,
    "reference/profiles.md": profiles,
    "reference/environment.md": environment,
    "reference/metrics.md": metrics,
}
"""What writes each page, by its path below docs/."""


def files() -> dict[str, bytes]:
    """Return every generated file's bytes, by its path below docs/."""
    shown = {f"notebooks/{name}": data for name, data in pictures(NOTEBOOK).items()}
    return shown | {name: page(make).encode() for name, make in PAGES.items()}


def page(make: Callable[[], str]) -> str:
    """Return a page as it is written: marked, with single empty lines, ending with one line end."""
    return _NOTE + re.sub(r"\n{3,}", "\n\n", make()).strip() + "\n"
