"""Prints the image's bill of materials (CycloneDX): Python packages, the interpreter, and Debian's packages below them.

Run by the base's Python while the image is built; the tool that lists Python packages knows nothing of the others.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from typing import Any
from urllib.parse import quote

_FIELDS = "${db:Status-Abbrev}\\t${Package}\\t${Version}\\t${Architecture}\\n"


def debian(listed: str) -> list[dict[str, Any]]:
    """Return components of the packages that `dpkg-query` lists as installed, sorted by name."""
    found = []
    for line in sorted(listed.splitlines()):
        status, name, version, architecture = line.split("\t")
        if status.startswith("ii"):
            purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}"
            found.append({"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl})
    return found


def interpreter() -> dict[str, Any]:
    """Return the component of this Python: a base may have built it from source, where no package names it."""
    purl = f"pkg:generic/python@{platform.python_version()}"
    return {
        "type": "application",
        "name": "python",
        "version": platform.python_version(),
        "purl": purl,
        "bom-ref": purl,
    }


def bill(packages: str, listed: str) -> str:
    """Return a bill of Python packages as JSON, with what is below them added."""
    document: dict[str, Any] = json.loads(packages)
    document["components"] += [interpreter(), *debian(listed)]
    return json.dumps(document, indent=1)


def _said_by(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    lister, environment, project = sys.argv[1:]
    python = _said_by(lister, "environment", "--output-reproducible", "--pyproject", project, environment)
    print(bill(python, _said_by("dpkg-query", "--show", f"--showformat={_FIELDS}")))
