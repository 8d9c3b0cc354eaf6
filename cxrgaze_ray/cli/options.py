"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]
RegistryUri = Annotated[
    str, typer.Option("--registry", envvar="CXRGAZE_REGISTRY", help="Model registry: a folder or s3:// prefix.")
]
Address = Annotated[
    str | None, typer.Option("--address", envvar="RAY_ADDRESS", help="Running Ray cluster; none starts a private one.")
]
Model = Annotated[str, typer.Option("--model", help="name@champion, name@v3, or a bundle's URI.")]
DEFAULT_REGISTRY = "./registry"
DEFAULT_MODEL = "cxrgaze@champion"
