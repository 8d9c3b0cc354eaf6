"""cxrgaze archive: make and list."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from cxrgaze_ray.cli.console import bar, human_bytes, print_table, say, show
from cxrgaze_ray.cli.gaps import Gaps
from cxrgaze_ray.cli.options import (
    SEED_MAX,
    FollowLinks,
    IdentitiesOption,
    Json,
    Pseudonymise,
    archive_uri,
    identities_of,
)

_FAMILIES = ("view_source", "view", "format", "split")
_MEANING = {
    "missing": "listed, but missing",
    "unreadable": "present, but not readable",
    "links_outside": "lead out of the archive: not followed",
    "special_files": "not regular files: never opened",
    "closed_folders": "could not be listed: their contents are unknown",
    "link_loops": "to a folder they lie in: not followed again",
    "folder_markers": "empty objects that stand for a folder: left out",
    "invalid": "entries that name no file",
    "repeated_ids": "files that share their id with another",
    "repeated_entries": "entries that name a file again: left out",
    "odd_ids": "identifiers hashed because of their form",
    "hidden": "left out",
    "metadata": "tables and notes: left out",
    "incomplete": "unfinished downloads: left out",
}


class DriftKind(StrEnum):
    """Ways in which a phantom archive can differ: `phantoms.Drift`."""

    EXPOSURE = "exposure"
    POLARITY = "polarity"
    SITE = "site"
    PREVALENCE = "prevalence"


def make(
    directory: Annotated[str, typer.Argument(help="Folder or s3:// prefix to write to.")],
    images: Annotated[int, typer.Option(min=1, help="Sound radiographs to draw.")] = 200,
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="The same seed gives the same bytes.")] = 0,
    faults: Annotated[int, typer.Option(min=0, help="Broken files of each kind to plant.")] = 0,
    drift: Annotated[
        list[DriftKind] | None,
        typer.Option(help="A way in which the archive differs from others with that seed; may be repeated."),
    ] = None,
    drift_strength: Annotated[float, typer.Option(min=0, max=1, help="Its strength, for all of --drift.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Draw a phantom archive in the MIMIC-CXR layout, with EGD-CXR gaze tables.

    Example: cxrgaze archive make ./phantoms --images 200 --seed 7 --faults 1
    """
    from cxrgaze_ray.phantoms import Drift, make_archive
    from cxrgaze_ray.storage import check_writable, open_store

    asked = Drift.of(drift or (), drift_strength)
    check_writable(open_store(directory))
    with bar("Drawing", quiet=as_json) as progress:
        report = make_archive(
            open_store(directory), images=images, seed=seed, faults=faults, drift=asked, on_progress=progress.update
        )
    show(
        {"uri": directory, **report.counts, "drift": asked.in_effect()},
        as_json=as_json,
        lines=[f"{report.counts['images']} radiographs and {report.counts['faults']} broken files are in {directory}."],
    )


def list_(
    uri: Annotated[
        str, typer.Argument(help="Archive: a folder, an s3:// prefix, a file, or a list of URIs.", callback=archive_uri)
    ],
    out: Annotated[str | None, typer.Option(help="Write the manifest here, as Parquet; it works as a list.")] = None,
    identities: IdentitiesOption = "keyed",
    pseudonymise: Pseudonymise = None,
    follow_links: FollowLinks = False,
    as_json: Json = False,
) -> None:
    """List an archive, one row per file, and count files by format, view and split.

    A list is a .csv, .csv.gz or .parquet with a column uri or path, and image_id, subject_id, study_id, view_position.

    Example: cxrgaze archive list s3://hospital/cxr --out manifest.parquet
    """
    from cxrgaze_ray.archive.manifest import list_archive, with_origin
    from cxrgaze_ray.scoring.runs import table_bytes
    from cxrgaze_ray.storage import open_output

    written = open_output(out) if out is not None else None
    with bar("Listing", quiet=as_json):  # how many there are is known at the end
        manifest = list_archive(uri, identities_of(identities, pseudonymise), follow_links=follow_links)
    Gaps().tell(manifest)
    if written is not None:
        store, key = written
        store.put(key, table_bytes(with_origin(manifest)))
        say(f"The manifest is {out}.")
    about = {"uri": manifest.uri, "layout": manifest.layout, "identities": manifest.identities}
    if as_json:
        show({**about, "sha256": manifest.sha256(), **manifest.counts}, as_json=True)
    else:
        print_table(["", "", ""], _lines(about | manifest.counts))


def _lines(found: dict[str, Any]) -> list[list[Any]]:
    """Lay out a listing's counts: zeros are left out except for the files, and families share their name."""
    rows: list[list[Any]] = []
    before = ""
    for name, value in found.items():
        family = next((one for one in _FAMILIES if name.startswith(f"{one}_")), "")
        if family:
            rows.append(["" if family == before else _title(family), name.removeprefix(f"{family}_"), f"{value:,}"])
        elif name == "bytes":
            rows.append(["size", human_bytes(value), ""])
        elif value or name == "files":
            rows.append([_title(name), f"{value:,}" if isinstance(value, int) else value, _MEANING.get(name, "")])
        before = family
    return rows


def _title(name: str) -> str:
    return name.replace("_", " ")
