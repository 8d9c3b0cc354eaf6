"""cxrgaze models import: weights that others trained."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cxrgaze_ray.cli.console import say, show
from cxrgaze_ray.cli.options import DEFAULT_REGISTRY, Json, RegistryUri


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Checkpoint: a bare state dict, .pth or safetensors.")],
    form: Annotated[
        Literal["cxrgazelearn"], typer.Option("--format", help="Whose names it has: the paper's released code's.")
    ],
    name: Annotated[str, typer.Option(help="Model name to publish as.")] = "cxrgazelearn",
    input_size: Annotated[
        Literal["640x512", "320x256"], typer.Option(help="Height x width that it was trained at.")
    ] = "640x512",
    out: Annotated[
        str | None,
        typer.Option(
            help="Publish nothing; write the file's DenseNet here, for `train --backbone-weights`. The only way for a "
            "file of the contrastive phase."
        ),
    ] = None,
    registry: RegistryUri = DEFAULT_REGISTRY,
    as_json: Json = False,
) -> None:
    """Publish a checkpoint of the paper's released code as a model, which reads images of profile released-v1.

    Example: cxrgaze models import GazeNet.pth --format cxrgazelearn --name released
    """
    from cxrgaze_ray.models.released import read_released, released_backbone, released_bundle
    from cxrgaze_ray.models.settings import PRESETS
    from cxrgaze_ray.registry.ledger.rules import checked_name
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.storage import check_writable, open_output, open_store

    height, _, width = input_size.partition("x")
    config = PRESETS["full"].model_copy(update={"input_size": (int(height), int(width))})
    if out is not None:
        store, key = open_output(out)
        checkpoint = read_released(file)
        store.put(key, released_backbone(file, checkpoint, config))
        told = {"backbone": out, "format": form, "sha256": checkpoint.sha256}
        lines = [f"DenseNet's weights are in {out}; no model was published. Train from them: --backbone-weights {out}"]
        show(told, as_json=as_json, lines=lines)
        return
    published = Registry(open_store(registry))
    checked_name(name)
    check_writable(published.store)
    bundle = released_bundle(file, read_released(file), name, config)
    pin = published.publish(bundle, f"imported, format {form}")
    say(bundle.info.lineage.caution)
    lines = [
        f"{name}@{pin.version} is published in {registry}. It reads images of profile {bundle.info.profile}.",
        f"Promote it with: cxrgaze models promote {name} {pin.version}",
    ]
    show(pin.model_dump() | {"format": form}, as_json=as_json, lines=lines)
