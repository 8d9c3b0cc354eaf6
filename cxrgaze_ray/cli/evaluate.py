"""cxrgaze evaluate."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrgaze_ray.cli.console import bar, print_table, say, show
from cxrgaze_ray.cli.evaluation_report import Pictures, write_page
from cxrgaze_ray.cli.options import DEFAULT_MODEL, DEFAULT_REGISTRY, Address, Json, Model, RegistryUri
from cxrgaze_ray.cli.train import StoreUri

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cxrgaze_ray.registry.pin import ModelPin
    from cxrgaze_ray.registry.versions import Registry


def evaluate(
    store: StoreUri,
    model: Model = DEFAULT_MODEL,
    split: Annotated[Literal["train", "validation", "test"], typer.Option(help="train, validation or test.")] = "test",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Most workers that predict; by default one for every GPU, else every node."),
    ] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="0.5 puts two on a GPU; by default 1 if the cluster has any.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="HTML page to write: curves, calibration, subgroups.")] = None,
    pictures: Pictures = 0,
    registry: RegistryUri = DEFAULT_REGISTRY,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Compute a model's metrics on a split, with intervals. A look at the test split goes into the model's ledger.

    Example: cxrgaze evaluate ./store --model cxrgaze@champion
    """
    from cxrgaze_ray.cluster.connection import ClusterSettings, connect
    from cxrgaze_ray.errors import ConfigError
    from cxrgaze_ray.evaluation.answers import PoolSettings
    from cxrgaze_ray.evaluation.evaluate import evaluate_bundle
    from cxrgaze_ray.models.bundle import read_bundle
    from cxrgaze_ray.registry.looks import enter_look
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.shards import ShardStore
    from cxrgaze_ray.storage import open_output, open_store

    if pictures and out is None:
        raise ConfigError("--pictures are shown in a page.", "Say where to write it: --out evaluation.html.")
    if out is not None:
        open_output(out)
    pool = PoolSettings.build(workers=workers, gpus=gpus_per_worker)
    ledger, opened = Registry(open_store(registry)), ShardStore.open(store)
    pin = ledger.resolve(model)
    if split == "test":
        names = enter_look(ledger, pin, opened.parts, "cxrgaze evaluate")
        say(_looked(ledger, names, opened.parts, pin))
    bundle = read_bundle(open_store(pin.uri))
    with bar("Evaluating", quiet=as_json) as progress:
        result = evaluate_bundle(
            bundle,
            opened,
            split,
            connect=partial(connect, ClusterSettings(address=address)),
            pool=pool,
            on_progress=progress.update,
        )
    if out is not None:
        write_page(out, pin, bundle, json.loads(json.dumps(result.summary())), opened, split, pictures)
    if as_json:
        show({"model": pin.model_dump(), **result.summary(), "page": out}, as_json=True)
        return
    if not pin.trained:
        say("The model is untrained: its answers mean nothing.")
    print_table(["metric", "value", "95% interval"], result.rows())
    for sentence in filter(None, (result.reach, result.note, out and f"The page is in {out}.")):
        say(sentence)


def _looked(registry: Registry, names: Sequence[str], stores: Sequence[str], pin: ModelPin) -> str:
    """Say how often the split was looked at: of many models the best one on it is partly the luckiest."""
    if not names:
        return f"No look was entered: {registry.store.uri} knows neither these weights nor the name {pin.name}."
    looks = max((registry.looks(name, stores) for name in names if name in registry.models()), default=1)
    return f"This test split has been shown to {looks} model{'' if looks == 1 else 's'} of this name so far."
