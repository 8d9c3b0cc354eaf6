"""cxrgaze train."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cxrgaze_ray.cli.console import epoch_bar, print_table, say, show
from cxrgaze_ray.cli.dry_run import dry_run_of
from cxrgaze_ray.cli.evaluation_report import Pictures, training_report
from cxrgaze_ray.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_REGISTRY,
    Address,
    Json,
    PromotionReason,
    RegistryUri,
    TrackingUri,
    WorkMetricsPort,
)
from cxrgaze_ray.models.settings import System

if TYPE_CHECKING:
    from cxrgaze_ray.training.order import TrainOrder

StoreUri = Annotated[str, typer.Argument(help="Shard store, made by `cxrgaze ingest`.")]


def train(
    store: StoreUri,
    system: Annotated[
        System | None, typer.Option(help="The network, by the paper's name; gazenet unless --config names another.")
    ] = None,
    preset: Annotated[
        Literal["full", "small", "tiny"], typer.Option(help="Size of the network: full is the paper's.")
    ] = "full",
    recipe: Annotated[
        Literal["paper", "recommended"] | None,
        typer.Option(help="What settings begin from: paper's by default, or recommended ones, which augment images."),
    ] = None,
    config: Annotated[str | None, typer.Option(help="YAML over the preset's settings.")] = None,
    single: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting, such as architecture.tap=transition3; may be repeated."),
    ] = None,
    phases: Annotated[
        str | None,
        typer.Option(metavar="PHASE,PHASE", help="Only these phases: contrastive,encoder,saliency,classifier."),
    ] = None,
    name: Annotated[str, typer.Option(help="Model name to publish as.")] = "cxrgaze",
    parent: Annotated[str | None, typer.Option("--from", help="Start from this model's weights.")] = None,
    backbone_weights: Annotated[
        str | None, typer.Option(help="First weights of DenseNet or Inception, safetensors; not with --from.")
    ] = None,
    workers: Annotated[str, typer.Option(help="Ray Train workers: 4, or 2:8 for as many as there is room for.")] = "1",
    checkpoint_minutes: Annotated[
        float | None,
        typer.Option(
            min=0.0001,
            max=1440,
            help="Minutes of work that a kill may cost, in the middle of an epoch too; by default 2.",
        ),
    ] = None,
    checkpoints_kept: Annotated[
        int | None, typer.Option(min=1, max=100, help="Checkpoints that are kept; by default 2.")
    ] = None,
    tensorboard: Annotated[
        str | None, typer.Option(help="Folder for losses as TensorBoard's event files, one of its own a training.")
    ] = None,
    tracking: TrackingUri = None,
    promote: Annotated[bool, typer.Option("--promote", help="Make the new version the champion.")] = False,
    reason: PromotionReason = "",
    pictures: Pictures = 0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check everything, measure a step of each phase, say how long it takes; train nothing."
        ),
    ] = False,
    registry: RegistryUri = DEFAULT_REGISTRY,
    metrics_port: WorkMetricsPort = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Train a network's phases and publish the bundle. The same command goes on with a killed training.

    Example: cxrgaze train ./store --preset tiny --registry ./registry --promote
    """
    from cxrgaze_ray.cluster.connection import ClusterSettings, connect
    from cxrgaze_ray.models.bundle import read_info
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.reports.metric_rows import metric_rows
    from cxrgaze_ray.shards import ShardStore
    from cxrgaze_ray.storage import open_store
    from cxrgaze_ray.training.order import train_as_ordered

    order = order_of(
        preset=preset, config=config, phases=phases, system=system, single=single, recipe=recipe, name=name,
        workers=workers, checkpoint_minutes=checkpoint_minutes, checkpoints_kept=checkpoints_kept, store=store,
        registry=registry, parent=parent, backbone_weights=backbone_weights, tensorboard=tensorboard,
        tracking=tracking, promote=promote, reason=reason, dry_run=dry_run,
    )  # fmt: skip
    tell = (lambda _: None) if as_json else say
    if dry_run:
        dry_run_of(order, tell, ClusterSettings(address=address, metrics_port=metrics_port), as_json=as_json)
        return
    with epoch_bar(quiet=as_json) as shown:
        pin = train_as_ordered(
            order, partial(connect, ClusterSettings(address=address, metrics_port=metrics_port)), tell, shown.step
        )
    metrics = read_info(open_store(pin.uri)).metrics
    page = training_report(Registry(open_store(registry)), pin, ShardStore.open(store), pictures)
    if as_json:
        show(pin.model_dump() | {"promoted": promote, "metrics": metrics, "report": page}, as_json=True)
        return
    if metrics:
        print_table(
            ["metric", "value", "95% interval"], [[row.name, row.value, row.interval] for row in metric_rows(metrics)]
        )
    where = "" if registry == DEFAULT_REGISTRY else f" --registry {shlex.quote(registry)}"
    lines = [f"{name}@{pin.version} is published: {pin.uri}", f"How it learned and how good it is: {page}"]
    if promote:
        model = "" if f"{name}@champion" == DEFAULT_MODEL else f" --model {name}@champion"
        lines.append(f"It was promoted: it is {name}@champion now. Serve it: cxrgaze serve{model}{where}")
    else:
        lines.append(f"It was not promoted. To put it into service: cxrgaze models promote {name}@{pin.version}{where}")
    for line in lines:
        say(line)


def order_of(
    *,
    preset: Literal["full", "small", "tiny"],
    config: str | None,
    phases: str | None,
    system: System | None,
    single: list[str] | None,
    recipe: Literal["paper", "recommended"] | None,
    name: str,
    workers: str,
    checkpoint_minutes: float | None,
    checkpoints_kept: int | None,
    **others: Any,
) -> TrainOrder:
    """Return the training that a command's options ask for; `others` are fields of `TrainOrder` as they are.

    Raises
    ------
    ConfigError
        If one is out of bounds.
    """
    from cxrgaze_ray.cli.training_settings import read_training
    from cxrgaze_ray.registry.ledger.rules import checked_name
    from cxrgaze_ray.training.order import TrainOrder
    from cxrgaze_ray.training.running import CheckpointSettings, Workers

    chosen = read_training(preset, config, phases, system, single or (), recipe)
    saved = {"minutes": checkpoint_minutes, "keep": checkpoints_kept}
    return TrainOrder.build(
        name=checked_name(name),
        workers=Workers.parse(workers),
        checkpoints=CheckpointSettings.build(**{key: value for key, value in saved.items() if value is not None}),
        **chosen._asdict(),
        **others,
    )
