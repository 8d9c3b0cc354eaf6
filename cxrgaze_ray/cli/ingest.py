"""cxrgaze ingest."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrgaze_ray.cli.console import bar, say, show
from cxrgaze_ray.cli.gaps import Gaps
from cxrgaze_ray.cli.options import (
    Address,
    FollowLinks,
    IdentitiesOption,
    Json,
    Pseudonymise,
    WorkMetricsPort,
    archive_uri,
    identities_of,
)

if TYPE_CHECKING:
    from cxrgaze_ray.shards import IngestSettings, StoreInfo


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
    metrics_port: WorkMetricsPort = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Join radiographs and gaze into a shard store, split by patient. The same command continues a stopped one.

    Example: cxrgaze ingest ./phantoms --gaze ./phantoms/egd-cxr --out ./store
    """
    from cxrgaze_ray.cluster.connection import ClusterSettings, connect
    from cxrgaze_ray.shards import ingest as run_ingest

    settings = settings_of(keep, labels, split, split_salt, split_shares, profile)
    with bar("Ingesting", quiet=as_json) as progress:
        store = run_ingest(
            archive,
            gaze,
            out,
            settings=settings,
            identities=identities_of(identities, pseudonymise),
            follow_links=follow_links,
            workers=workers,
            connect=partial(connect, ClusterSettings(address=address, metrics_port=metrics_port)),
            on_listed=Gaps().tell,
            on_progress=lambda state: progress.update(state.done, state.total),
        )
    counts = store.info.counts
    if as_json:
        show({"store": out, "sha256": store.info.sha256(), "split_by": store.info.split_by, **counts}, as_json=True)
        return
    for sentence in [*ingest_notes(store.info), *ingest_summary(store.info)]:
        say(sentence)
    show({}, as_json=False, lines=[f"The store is {out}. To learn from it: cxrgaze train {shlex.quote(out)}"])


def settings_of(keep: str, labels: str, split: str, split_salt: str, split_shares: str, profile: str) -> IngestSettings:
    """Return the settings that a command's options stand for; ConfigError if one is out of bounds."""
    from cxrgaze_ray.shards import IngestSettings, SplitSettings

    shares = SplitSettings.of_shares(split_shares, split_salt)
    return IngestSettings.build(keep=keep, labels=labels, split_by=split, split=shares, profile=profile)


def ingest_summary(info: StoreInfo) -> list[str]:
    """Say in sentences what a store holds; all its counts are in its JSON."""
    from cxrgaze_ray.schemas import CLASSES

    counts = info.counts
    splits = ", ".join(f"{counts.get(f'split_{name}', 0)} for {what}" for name, what in _SPLITS.items())
    labels = ", ".join(f"{counts.get(f'label_{name}', 0)} {name.replace('_', ' ')}" for name in CLASSES)
    sentences = [
        f"{counts['images']} images with profile {info.profile}, {counts.get('images_with_gaze', 0)} of them with "
        f"gaze: {splits}.",
        f"Labels: {labels}.",
    ]
    rejects = {name.removeprefix("reject_"): count for name, count in counts.items() if name.startswith("reject_")}
    if rejects:
        why = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in rejects.items())
        sentences.append(f"{sum(rejects.values())} files gave no image: {why}.")
    for name, what in _LEFT_OUT.items():
        if count := counts.get(name):
            sentences.append(f"{count} {what}.")
    return sentences


_SPLITS = {"train": "training", "validation": "validation", "test": "the test"}
_LEFT_OUT = {
    "left_out_unlabelled": "files have neither a label nor gaze and were left out; --keep all keeps them",
    "left_out_without_split": "files are in no split and were left out",
    "gaze_without_file": "images of the gaze tables are not in the archive",
}


def ingest_notes(info: StoreInfo) -> list[str]:
    """Say in sentences what a user must know of an ingest beside its counts."""
    counts, notes = info.counts, info.warnings()
    notes += [sentence for split in ("train", "validation", "test") for sentence in _too_few(counts, split)]
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


def _too_few(counts: dict[str, int], split: str) -> Iterator[str]:
    from cxrgaze_ray.evaluation.gate.settings import GateSettings

    images, least = counts.get(f"split_{split}", 0), GateSettings().least_patients
    if not images:
        yield f"Warning: no image is in the {split} split."
    elif split == "test" and images < least:
        yield (
            f"Warning: the test split has {images} image{'s' if images > 1 else ''}, too few to tell a good model from "
            f"a bad one: the gate asks for {least} patients there."
        )


_GAZE_ROWS = ("egd_gaze_rows_{}", "egd_sheet_rows_{}", "reflacx_readings_{}", "fixation_rows_{}")
"""Counts of rows that are malformed or repeated, in all gaze tables."""
