"""cxrgaze archive: make and list."""

from __future__ import annotations

from typing import Annotated

import typer

from cxrgaze_ray.cli.console import bar, human_bytes, print_table, say, show
from cxrgaze_ray.cli.options import Json


def make(
    directory: Annotated[str, typer.Argument(help="Folder or s3:// prefix to write to.")],
    images: Annotated[int, typer.Option(min=1, help="Sound radiographs to draw.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    faults: Annotated[int, typer.Option(min=0, help="Broken files of each kind to plant.")] = 0,
    drift: Annotated[float, typer.Option(min=0, max=1, help="Shift of exposure, noise and vendors.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Draw a phantom archive in the MIMIC-CXR layout, with EGD-CXR gaze tables.

    Example: cxrgaze archive make ./phantoms --images 200 --seed 7 --faults 1
    """
    from cxrgaze_ray.phantoms import make_archive
    from cxrgaze_ray.storage import open_store

    with bar("Drawing", quiet=as_json) as progress:
        report = make_archive(
            open_store(directory), images=images, seed=seed, faults=faults, drift=drift, on_progress=progress.update
        )
    show(
        {"uri": directory, **report.counts},
        as_json=as_json,
        lines=[f"{report.counts['images']} radiographs and {report.counts['faults']} broken files are in {directory}."],
    )


def list_(
    uri: Annotated[str, typer.Argument(help="Archive: a folder or s3:// prefix.")],
    out: Annotated[str | None, typer.Option(help="Write the manifest here, as Parquet.")] = None,
    as_json: Json = False,
) -> None:
    """List an archive, one row a file, and count it by format and view.

    Example: cxrgaze archive list s3://hospital/cxr --out manifest.parquet
    """
    from cxrgaze_ray.manifest import list_archive
    from cxrgaze_ray.runs import table_bytes
    from cxrgaze_ray.storage import open_parent

    manifest = list_archive(uri)
    if out is not None:
        store, key = open_parent(out)
        store.put(key, table_bytes(manifest.table))
        say(f"The manifest is {out}.")
    result = {"uri": manifest.uri, "layout": manifest.layout, "sha256": manifest.sha256(), **manifest.counts}
    if as_json:
        show(result, as_json=True)
        return
    counts = dict(manifest.counts)
    size = human_bytes(counts.pop("bytes"))
    print_table(
        ["", ""], [["layout", manifest.layout], ["size", size], *[[n.replace("_", " "), c] for n, c in counts.items()]]
    )
