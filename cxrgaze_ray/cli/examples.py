"""cxrgaze examples: the jobs, Serve configs and infrastructure files that come with the package."""

from __future__ import annotations

import shlex
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from cxrgaze_ray.cli.console import show
from cxrgaze_ray.cli.options import Json
from cxrgaze_ray.errors import ConfigError

FOLDERS = ("jobs", "serve_configs", "infra")
_NO_EXAMPLES = shutil.ignore_patterns("__pycache__", "packaging")  # infra/packaging builds this package itself


def copy(
    out: Annotated[Path, typer.Argument(help="Folder to copy them to; it is made if it is not there.")],
    as_json: Json = False,
) -> None:
    """Copy example jobs, Ray Serve configs and infrastructure files to a folder of your own, and edit them there.

    Example: cxrgaze examples copy ./cxrgaze-site
    """
    taken = [name for name in FOLDERS if (out / name).exists()]
    if taken:
        why = f"{out / taken[0]} is there already."
        raise ConfigError(why, "Name a folder that has none: nothing is written over.")
    source = examples_folder()
    try:
        for name in FOLDERS:
            shutil.copytree(source / name, out / name, ignore=_NO_EXAMPLES)
    except OSError as error:
        why = f"The examples can't be written to {out}: {error.strerror or type(error).__name__}."
        raise ConfigError(why, "Name a folder that can be written.") from error
    count = sum(file.is_file() for name in FOLDERS for file in (out / name).rglob("*"))
    served = shlex.quote(str(out / "serve_configs" / "local.yaml"))
    lines = [
        f"{count} example files are in {out}.",
        f"Edit them, then for instance: cxrgaze serve --config {served}",
    ]
    show({"out": str(out), "files": count}, as_json=as_json, lines=lines)


def examples_folder() -> Path:
    """Return where the examples are: inside an installed package, or beside it in a checkout."""
    package = Path(str(files("cxrgaze_ray")))
    inside = package / "examples"
    return inside if inside.is_dir() else package.parent
