"""cxrgaze models export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cxrgaze_ray.cli.console import say, show
from cxrgaze_ray.cli.options import DEFAULT_REGISTRY, Json, RegistryUri
from cxrgaze_ray.errors import ConfigError


def export(
    reference: Annotated[str, typer.Argument(metavar="NAME[@VERSION|@ALIAS]", help="By default the champion.")],
    to: Annotated[Literal["mlflow", "onnx"], typer.Option(help="What to write: a folder, or one file.")],
    out: Annotated[Path, typer.Option(help="Folder or file to make, on this machine.")],
    registry: RegistryUri = DEFAULT_REGISTRY,
    as_json: Json = False,
) -> None:
    """Write a model for other programs.

    mlflow: a pyfunc model that takes files' bytes and answers with the rows of a run. onnx: the network alone, with
    calibration; its input must be prepared by the model's profile, which the file names.

    Example: cxrgaze models export cxrgaze@champion --to mlflow --out ./cxrgaze-mlflow
    """
    from cxrgaze_ray.registry.versions import pin_model
    from cxrgaze_ray.storage import open_store

    if out.exists():
        raise ConfigError(f"Something is at {out} already.", "Name a path where there is nothing.")
    pin = pin_model(registry, reference)
    bundle = open_store(pin.uri)
    if not pin.trained:
        say("This model is untrained: its answers mean nothing.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if to == "mlflow":
            from cxrgaze_ray.api.mlflow_model import save_mlflow

            save_mlflow(bundle, out, f"{pin.name}@{pin.version}")
        else:
            from cxrgaze_ray.models.bundle import read_bundle
            from cxrgaze_ray.models.onnx_export import export_onnx

            export_onnx(read_bundle(bundle), out)
    except OSError as error:
        raise ConfigError(f"{out} can't be written: {error.strerror}.", "Name a path that can be written.") from error
    told = {"model": f"{pin.name}@{pin.version}", "weights_sha256": pin.weights_sha256, "to": to, "out": str(out)}
    show(told, as_json=as_json, lines=[f"{pin.name}@{pin.version} is in {out}."])
