"""cxrgaze runs export."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrgaze_ray.cli.console import bar, say, show, stop_on_interrupt
from cxrgaze_ray.cli.options import Json
from cxrgaze_ray.cli.runs import RunUri
from cxrgaze_ray.cli.sources import PATHS_KEPT, PATHS_LEFT_OUT, lost_sources
from cxrgaze_ray.errors import Interrupted

if TYPE_CHECKING:
    from cxrgaze_ray.export import Exported

_STOPPING = "Stopping: images in progress are completed first. Ctrl-C again stops at once; written files stay."

_NOTES = {
    "not_dicom": "sources are not DICOM files, and so belong to no study",
    "no_identity": "sources lack valid UIDs, or are not of a radiograph's class",
    "missing": "sources are gone",
    "changed": "sources have changed since the run",
}


def export(
    run: RunUri,
    to: Annotated[Literal["csv", "xlsx", "png", "dicom-sr", "dicom-sc"], typer.Option(help="What to write.")],
    out: Annotated[str, typer.Option(help="Folder or s3:// prefix to write to.")],
    only: Annotated[str | None, typer.Option(help="Only images of this predicted class; not for tables.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N scored images; not for tables.")] = None,
    with_paths: Annotated[
        bool, typer.Option("--with-paths", help="Put the files' paths into tables; they may name patients.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a run for other programs: tables, overlays, or DICOM objects in the sources' studies.

    DICOM Structured Reports (TID 1500) and Secondary Captures are unverified and preliminary, and carry the patient's
    identity as their sources do: keep them as you keep the archive. The same command continues a stopped export.

    It exits with 2 if sources are gone or have changed; files already written stay. A model without saliency has no
    overlays and Secondary Captures, one without classes no Structured Reports.

    Example: cxrgaze runs export s3://results/cxr/3f0c5a9d1b2e4f67 --to dicom-sr --out s3://results/reports
    """
    from cxrgaze_ray.export import export_run
    from cxrgaze_ray.models.predictions import told
    from cxrgaze_ray.scoring.runs import Run
    from cxrgaze_ray.storage import open_store

    opened = Run.open(open_store(run))
    if opened.success() is None and not as_json:
        say("The run is not finished: only rows committed so far are exported.")
    with bar("Exporting", quiet=as_json) as progress, stop_on_interrupt(_STOPPING) as stop:
        try:
            done = export_run(
                opened,
                to,
                open_store(out),
                limit=limit,
                only=only,
                with_paths=with_paths,
                stop=stop,
                on_progress=progress.update,
            )
        except Interrupted as error:
            again = shlex.join(["cxrgaze", *sys.argv[1:]])
            raise Interrupted(error.message, f"Continue with: {again}") from error
    show({"out": out, **asdict(done)}, as_json=as_json, lines=_lines(done, out))
    if to in {"csv", "xlsx"} and not as_json:
        if len(opened.spec.predicts) == 1:
            say(f"The run's model predicts {told(opened.spec.predicts)}: the columns of the rest are empty.")
        say(PATHS_KEPT if with_paths else f"{PATHS_LEFT_OUT} --with-paths adds them.")
    if done.lost:
        missed = sum(done.lost.values())
        raise lost_sources(
            f"{missed} of {missed + done.written + done.there} files were not written",
            done.lost,
            opened.spec.request.archive,
        )


def _lines(done: Exported, out: str) -> list[str]:
    lines = [f"{done.written} file{'' if done.written == 1 else 's'} written to {out}."]
    if done.there:
        lines.append(f"{done.there} files had been written before.")
    lines += [
        f"{count} {_NOTES.get(name, f'sources cannot be read: {name}')}." for name, count in done.left_out.items()
    ]
    if done.not_scored:
        lines.append(f"{done.not_scored} files of the run were not scored, and so have no output.")
    return lines
