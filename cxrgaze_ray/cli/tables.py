"""cxrgaze tables."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cxrgaze_ray.cli.console import bar, human_seconds, print_table, say, show
from cxrgaze_ray.cli.options import DEFAULT_REGISTRY, Address, Json, RegistryUri
from cxrgaze_ray.models.settings import SYSTEMS

if TYPE_CHECKING:
    from cxrgaze_ray.paper.plan import TablesSettings


def tables(
    store: Annotated[str, typer.Argument(help="Shard store, made by `cxrgaze ingest`.")],
    out: Annotated[str, typer.Option(help="Where the tables go: a folder or s3:// prefix.")] = "./tables",
    preset: Annotated[Literal["full", "small", "tiny"], typer.Option(help="Size of all networks.")] = "full",
    only: Annotated[str | None, typer.Option(help="Only these systems, by comma: gazenet,mt-unet.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of each system; cells are their mean.")] = 1,
    epochs: Annotated[int | None, typer.Option(min=1, help="Most epochs of any phase.")] = None,
    single: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of every training, such as backbone=fresh.")
    ] = None,
    backbone_weights: Annotated[
        str | None, typer.Option(help="DenseNet weights, safetensors, for the systems that have one.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Ray Train workers of each training.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained and how long; train nothing.")
    ] = False,
    registry: RegistryUri = DEFAULT_REGISTRY,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make the paper's two tables: train each system that is not trained yet, test all on the same images.

    The same command goes on where a killed one stopped. Systems: gazenet, mt-unet, dnet201-cl, dnet201,
    inception-resnet-v2, gazegnn, res-se-unet, unet-s.

    Example: cxrgaze tables ./store --preset tiny --out ./tables
    """
    from cxrgaze_ray.cluster.connection import ClusterSettings, connect
    from cxrgaze_ray.paper.plan import plan_jobs
    from cxrgaze_ray.paper.tables import make_tables
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.shards import ShardStore
    from cxrgaze_ray.storage import open_store

    settings = settings_of(preset, only, seeds, epochs, single)
    jobs, opened, kept = plan_jobs(settings), ShardStore.open(store), Registry(open_store(registry))
    if dry_run:
        elsewhere = ClusterSettings(address=address).joined is not None
        _foretell(opened, settings, kept, workers, backbone_weights, elsewhere=elsewhere, as_json=as_json)
        return
    with bar("Training and testing", quiet=as_json) as progress:
        results, written = make_tables(
            opened,
            settings,
            kept,
            open_store(out),
            workers=workers,
            backbone_weights=backbone_weights,
            connect=partial(connect, ClusterSettings(address=address)),
            say=(lambda _: None) if as_json else say,
            on_progress=progress.update,
        )
    left_out = results.left_out_by_title()
    models = {one.job.title: f"{one.pin.name}@{one.pin.version}" for one in results.tested}
    lines = [f"{title} is left out: {why}" for title, why in left_out.items()]
    lines.append(f"{len(models)} of {len([job for job in jobs if job.shown])} models are tested in {out}/tables.html.")
    if models:
        first = min(models.values())
        lines.append(f"None is promoted; to use one, name its version: cxrgaze predict FILE --model {first}")
    show({"out": out, "files": written, "models": models, "left_out": left_out}, as_json=as_json, lines=lines)


def settings_of(
    preset: str, only: str | None, seeds: int, epochs: int | None, single: list[str] | None
) -> TablesSettings:
    """Return the settings that a command's options stand for; ConfigError if one is wrong."""
    from cxrgaze_ray.cli.training_settings import read_single
    from cxrgaze_ray.paper.plan import TablesSettings

    return TablesSettings.build(
        preset=preset,
        only=() if only is None else _systems(only),
        seeds=seeds,
        epochs=epochs,
        training=read_single(single or ()),
    )


def _systems(only: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in only.split(","))
    if unknown := [name for name in names if name not in SYSTEMS]:
        told = f"There is no system {unknown[0]!r}. Name some of {', '.join(SYSTEMS)}."
        raise typer.BadParameter(told, param_hint="--only")
    return names


def _foretell(
    store: Any,
    settings: Any,
    registry: Any,
    workers: int,
    backbone_weights: str | None,
    *,
    elsewhere: bool,
    as_json: bool,
) -> None:
    from cxrgaze_ray.paper.run import foretell

    if not as_json:
        say("Measuring a step of each phase.")
    told = foretell(store, settings, registry, workers, backbone_weights, elsewhere=elsewhere)
    if as_json:
        show({"jobs": told.rows, "seconds": round(told.seconds), "device": told.device}, as_json=True)
        return
    print_table(
        ["system", "seed", "phase", "epochs at most", "step for one image", "time at most", "state"],
        [
            [
                row["system"], row["seed"], row["phase"], row["epochs"], f"{row['step_s']:.3f} s",
                human_seconds(row["seconds"]), row["state"],
            ]
            for row in told.rows
        ],
    )  # fmt: skip
    say(
        f"{human_seconds(told.seconds)} at most, by a step of each phase measured here on {told.device}; "
        "patience ends most phases earlier, and each training takes half a minute to start."
    )
