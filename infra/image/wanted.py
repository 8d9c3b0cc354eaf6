"""Prints what pip is to install for cxrgaze with some extras: a layer of the image that its source does not change."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def wanted(pyproject: str, extras: str) -> list[str]:
    """Return the requirements.

    Parameters
    ----------
    pyproject
        Text of pyproject.toml.
    extras
        Names of extras, separated by commas; may be empty.

    Raises
    ------
    SystemExit
        If there is no such extra.
    """
    project = tomllib.loads(pyproject)["project"]
    offered = project["optional-dependencies"]
    asked = [name for name in extras.split(",") if name]
    if unknown := sorted(set(asked) - set(offered)):
        raise SystemExit(f"There is no extra {', '.join(unknown)}; there are {', '.join(offered)}.")
    found = [*project["dependencies"], *(one for name in asked for one in offered[name])]
    # an extra of extras names this package, which is not to be had from an index
    nested = [re.fullmatch(rf"{project['name']}\[(.*)\]", one) for one in found]
    inner = [one for match in nested if match for one in wanted(pyproject, match[1])]
    return list(dict.fromkeys([*(one for one, match in zip(found, nested, strict=True) if not match), *inner]))


if __name__ == "__main__":
    print(*wanted(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[2]), sep="\n")
