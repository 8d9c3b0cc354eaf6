"""cxrgaze ingest and train."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrgaze_ray.cli.console import bar, epoch_bar, print_table, say, show
from cxrgaze_ray.cli.evaluation_report import Pictures, training_report
from cxrgaze_ray.cli.gaps import Gaps
from cxrgaze_ray.cli.options import (
    DEFAULT_REGISTRY,
    Address,
    FollowLinks,
    IdentitiesOption,
    Json,
    PromotionReason,
    Pseudonymise,
    RegistryUri,
    archive_uri,
    identities_of,
)

if TYPE_CHECKING:
    from cxrgaze_ray.shards import StoreInfo
    from cxrgaze_ray.training.settings import TrainSettings

StoreUri = Annotated[str, typer.Argument(help="Shard store, made by `cxrgaze ingest`.")]


def ingest(
    archive: Annotated[str, typer.Argument(help="Radiographs: a folder or s3:// prefix.", callback=archive_uri)],
    out: Annotated[str, typer.Option(help="Shard store to write.")],
    gaze: Annotated[
        list[str] | None,
        typer.Option(help="Folder of EGD-CXR (gaze and labels) or REFLACX (gaze); may be repeated."),
    ] = None,
    keep: Annotated[
        Literal["labelled", "all"], typer.Option(help="labelled: files with a label or gaze; all: every file.")
    ] = "labelled",
    labels: Annotated[
        Literal["sheet", "chexpert"],
        typer.Option(help="sheet: EGD-CXR's; chexpert: where it has none, the archive's CheXpert findings."),
    ] = "sheet",
    split: Annotated[
        Literal["patient", "archive", "image", "paper", "released"],
        typer.Option(
            "--split",
            "--split-by",
            help="patient: by a hash of the patient; archive: its own split; image: as patient, but where nobody names "
            "the patient, each image for itself; paper: EGD-CXR's 983 and 100 images, by patient; released: as the "
            "paper's released code, by image.",
        ),
    ] = "patient",
    split_salt: Annotated[
        str, typer.Option(help="Mixed into that hash. Stores of the same salt and shares split a patient the same way.")
    ] = "cxrgaze",
    split_shares: Annotated[
        str, typer.Option(help="Shares of patients in train and validation; the rest is the test split.")
    ] = "0.8,0.1",
    profile: Annotated[str, typer.Option(help="How files become model images; training keeps to it.")] = "cxrgaze-v1",
    identities: IdentitiesOption = "keyed",
    pseudonymise: Pseudonymise = None,
    follow_links: FollowLinks = False,
    workers: Annotated[int, typer.Option(min=1, help="Decoding workers.")] = 2,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Join radiographs and gaze into a shard store, split by patient. The same command continues a stopped one.

    Example: cxrgaze ingest ./phantoms --gaze ./phantoms/egd-cxr --out ./store
    """
    from cxrgaze_ray.cluster.connection import ClusterSettings, connect
    from cxrgaze_ray.shards import IngestSettings, SplitSettings
    from cxrgaze_ray.shards import ingest as run_ingest

    shares = SplitSettings.of_shares(split_shares, split_salt)
    settings = IngestSettings.build(keep=keep, labels=labels, split_by=split, split=shares, profile=profile)
    with bar("Ingesting", quiet=as_json) as progress:
        store = run_ingest(
            archive,
            gaze,
            out,
            settings=settings,
            identities=identities_of(identities, pseudonymise),
            follow_links=follow_links,
            workers=workers,
            connect=partial(connect, ClusterSettings(address=address)),
            on_listed=Gaps().tell,
            on_progress=lambda state: progress.update(state.done, state.total),
        )
    counts = store.info.counts
    if as_json:
        show({"store": out, "sha256": store.info.sha256(), "split_by": store.info.split_by, **counts}, as_json=True)
        return
    for sentence in ingest_notes(store.info):
        say(sentence)
    print_table(["what", "count"], [[name.replace("_", " "), count] for name, count in counts.items()])


def ingest_notes(info: StoreInfo) -> list[str]:
    """Say in sentences what a user must know of an ingest beside its counts."""
    counts, notes = info.counts, []
    if caution := info.caution():
        notes.append(f"Warning: {caution}")
    listed = counts.get("egd_images_with_gaze", 0) + counts.get("reflacx_images", 0)
    if listed and counts["gaze_without_file"] == listed - counts.get("images_in_both_sources", 0):
        notes.append("Warning: no image of the gaze tables is in the archive. Compare their ids with its image_id.")
    for kind, what in (
        ("malformed", "could not be read and were left out"),
        ("repeated", "were there twice and count once"),
    ):
        if rows := sum(counts.get(name.format(kind), 0) for name in _GAZE_ROWS):
            notes.append(f"{rows} rows of the gaze tables {what}.")
    if counts.get("labels_from_chexpert"):
        notes.append("Labels from CheXpert are proxies: edema stands for heart failure.")
    if patients := counts.get("patients_in_both_sources"):
        notes.append(
            f"{patients} patients and {counts['images_in_both_sources']} images are in both gaze data sets."
            " None of them is in two splits."
        )
    return notes


_GAZE_ROWS = ("egd_gaze_rows_{}", "egd_sheet_rows_{}", "reflacx_readings_{}", "fixation_rows_{}")
"""Counts of rows that are malformed or repeated, in all gaze tables."""


def train(
    store: StoreUri,
    system: Annotated[
        str | None,
        typer.Option(
            help="gazenet by default; mt-unet, gazegnn, inception-resnet-v2, unet-s, res-se-unet, dnet201, dnet201-cl."
        ),
    ] = None,
    preset: Annotated[Literal["full", "small", "tiny"], typer.Option(help="full, small or tiny.")] = "full",
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
        typer.Option(help="Only these phases, by comma: contrastive,encoder,saliency,classifier."),
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
    pictures: Pictures = 0,
    promote: Annotated[bool, typer.Option("--promote", help="Make the new version the champion.")] = False,
    reason: PromotionReason = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the settings; train nothing.")] = False,
    registry: RegistryUri = DEFAULT_REGISTRY,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Train a network's phases and publish the bundle. The same command goes on with a killed training.

    Example: cxrgaze train ./store --preset tiny --registry ./registry --promote
    """
    from cxrgaze_ray.cli.training_settings import read_training
    from cxrgaze_ray.cluster.connection import ClusterSettings, connect
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.shards import ShardStore
    from cxrgaze_ray.storage import open_store
    from cxrgaze_ray.training.progress import event_files
    from cxrgaze_ray.training.publishing import train_and_publish
    from cxrgaze_ray.training.running import CheckpointSettings, Workers

    chosen = {"minutes": checkpoint_minutes, "keep": checkpoints_kept}
    checkpoints = CheckpointSettings.build(**{name: value for name, value in chosen.items() if value is not None})
    team = Workers.parse(workers)
    settings = read_training(preset, config, phases, system, single or (), recipe)
    if dry_run:
        show(settings.model_dump(), as_json=as_json)
        for note in [] if as_json else [*settings.notes(), *_fresh(settings, parent or backbone_weights)]:
            say(note)
        return
    opened, ledger = ShardStore.open(store), Registry(open_store(registry))
    with event_files(tensorboard) as write, epoch_bar(quiet=as_json) as shown:
        pin = train_and_publish(
            opened,
            settings,
            ledger,
            name=name,
            parent=parent,
            backbone_weights=backbone_weights,
            workers=team,
            checkpoints=checkpoints,
            promote=promote,
            reason=reason,
            connect=partial(connect, ClusterSettings(address=address)),
            say=(lambda _: None) if as_json else say,
            on_epoch=write,
            on_step=shown.step,
        )
    page = training_report(ledger, pin, opened, pictures)
    lines = [f"{name}@{pin.version} is published in {registry}.", f"How it learned and how good it is: {page}"]
    if promote:
        lines.append(f"It is {name}@champion now.")
    else:
        where = "" if registry == DEFAULT_REGISTRY else f" --registry {shlex.quote(registry)}"
        lines.append(f"To put it into service: cxrgaze models promote {name} {pin.version}{where}")
    show(pin.model_dump() | {"report": page}, as_json=as_json, lines=lines)


def _fresh(settings: TrainSettings, given: str | None) -> list[str]:
    """Say that a network starts fresh although setting backbone asks for ImageNet's weights, as it does by default."""
    if given or settings.backbone == "fresh" or settings.network.fits_imagenet:
        return []
    return ["The network will start fresh, not from backbone imagenet: no ImageNet weights are of its kind and size."]
