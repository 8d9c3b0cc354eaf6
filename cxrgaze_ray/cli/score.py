"""cxrgaze score."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import cxrgaze_ray
from cxrgaze_ray.cli.console import STOP_SCORING, bar, human_bytes, human_seconds, say, show, stop_on_interrupt
from cxrgaze_ray.cli.gaps import Gaps
from cxrgaze_ray.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_REGISTRY,
    Address,
    Engine,
    FollowLinks,
    IdentitiesOption,
    Json,
    Model,
    Pseudonymise,
    RegistryUri,
    WorkMetricsPort,
    archive_uri,
)
from cxrgaze_ray.errors import EXIT_STRICT, Interrupted, NothingNew

if TYPE_CHECKING:
    from cxrgaze_ray.api.run import ScoredRun
    from cxrgaze_ray.scoring.gather import Progress
    from cxrgaze_ray.scoring.runs import Success


def score(
    archive: Annotated[
        str, typer.Argument(help="Radiographs: a folder, a file, or an s3:// prefix.", callback=archive_uri)
    ],
    out: Annotated[str, typer.Option(help="Parent of the run: a folder or s3:// prefix.")],
    model: Model = DEFAULT_MODEL,
    registry: RegistryUri = DEFAULT_REGISTRY,
    engine: Engine = "auto",
    view: Annotated[
        Literal["frontal", "all"], typer.Option(help="frontal skips laterals; all scores them too.")
    ] = "frontal",
    decode: Annotated[
        Literal["full", "reduced"],
        typer.Option(help="full, or reduced: JPEG and JPEG 2000 no larger than the model needs; faster."),
    ] = "full",
    identities: IdentitiesOption = "keyed",
    pseudonymise: Pseudonymise = None,
    follow_links: FollowLinks = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only the first N files.")] = None,
    cam: Annotated[
        bool,
        typer.Option("--cam", help="Add columns with Grad-CAM of DenseNet's own head; it is not the predicted gaze."),
    ] = False,
    not_in: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN", help="Leave out files that have a row in this finished run, or one under this parent."
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Score the failed rows of this command's last run again.")
    ] = False,
    new: Annotated[bool, typer.Option("--new", help="Start afresh, even if there is a run to continue.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 if a row failed, or a folder could not be read.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate time and space; write nothing.")] = False,
    replicas: Annotated[
        str | None, typer.Option(metavar="N or MIN:MAX", help="Model replicas; Serve adds them while images wait.")
    ] = None,
    gpus_per_replica: Annotated[
        float | None, typer.Option(min=0, help="0.5 puts two on a GPU; by default 1 if the cluster has any.")
    ] = None,
    metrics_port: WorkMetricsPort = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Score an archive: one row for every file, whatever happens. The same command continues a stopped run.

    Example: cxrgaze score s3://hospital/cxr --out s3://results/cxr --model cxrgaze@champion

    Every night: cxrgaze score s3://hospital/cxr --out s3://results/cxr --not-in s3://results/cxr
    """
    gaps = Gaps()
    asked: dict[str, Any] = {
        "model": model,
        "engine": engine,
        "view": view,
        "decode": decode,
        "identities": identities,
        "limit": limit,
        "cam": cam,
        "not_in": tuple(not_in or ()),
        "follow_links": follow_links,
    }
    if dry_run and retry_failed:
        raise typer.BadParameter("It estimates a whole run: leave out --retry-failed.", param_hint="--dry-run")
    if dry_run:
        _estimate(archive, out, registry, gaps, as_json, asked)
        return
    asked |= {
        "new": new,
        "retry_failed": retry_failed,
        "key_file": pseudonymise,
        "metrics_port": metrics_port,
        "address": address,
    }
    settings = {"model": replica_settings(replicas, gpus_per_replica)}
    try:
        run = _run(archive, out, registry, gaps, quiet=as_json, settings=settings, **asked)
    except NothingNew as nothing:
        show({"run": None, "rows": 0, "closed_folders": gaps.closed_folders}, as_json=as_json, lines=[nothing.message])
        if strict and gaps.closed_folders:
            raise typer.Exit(EXIT_STRICT) from None
        return
    success, closed = run.success, run.run.spec.closed_folders
    assert success is not None
    result = {"run": run.uri, "already_complete": run.already_complete, "closed_folders": closed}
    result |= success.model_dump(exclude={"shards"})
    show(result, as_json=as_json, lines=run_lines(run.uri, success, closed, already_complete=run.already_complete))
    if strict and (success.counts.get("failed") or closed):
        raise typer.Exit(EXIT_STRICT)


def replica_settings(replicas: str | None, gpus: float | None) -> dict[str, Any]:
    """Return the model's settings for --replicas N or MIN:MAX and --gpus-per-replica."""
    given: dict[str, Any] = {} if gpus is None else {"gpus": gpus}
    if replicas is None:
        return given
    numbers = replicas.split(":")
    if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
        raise typer.BadParameter("Write a whole number, or two with a colon: 1:4.", param_hint="--replicas")
    return given | {"min_replicas": int(numbers[0]), "max_replicas": int(numbers[-1])}


def _run(archive: str, out: str, registry: str, gaps: Gaps, *, quiet: bool, **asked: Any) -> ScoredRun:
    with bar("Scoring", quiet=quiet) as progress, stop_on_interrupt(STOP_SCORING) as stop:

        def advance(state: Progress) -> None:
            rate = f"{state.images_per_second:.1f} images/s" if state.images_per_second else ""
            progress.update(state.done, state.total, rate)

        told: dict[str, Any] = {"on_listed": gaps.tell, "on_progress": advance, "say": _silence if quiet else say}
        try:
            return cxrgaze_ray.score(archive, out=out, registry=registry, stop=stop, **told, **asked)
        except Interrupted as error:
            again = shlex.join(["cxrgaze", *sys.argv[1:]])
            raise Interrupted(error.message, f"Continue with: {again}") from error


def _silence(_: str) -> None:
    """Say nothing: the result is for a program."""


def _estimate(archive: str, out: str, registry: str, gaps: Gaps, as_json: bool, asked: dict[str, Any]) -> None:
    from cxrgaze_ray.api.run import make_request
    from cxrgaze_ray.scoring.estimate import estimate

    found = estimate(make_request(archive, **asked), out, registry, gaps.tell)
    lines = [
        f"{found.images} files, {human_bytes(found.bytes_in)} to read, about {human_bytes(found.bytes_out)} to write.",
        f"About {human_seconds(found.seconds)} of work on this machine with engine {found.engine}, and up to a minute "
        f"to start. Measured on {found.sampled} files: {1000 * found.decode_seconds:.0f} ms to decode on a core, "
        f"{1000 * found.model_seconds:.0f} ms of model.",
        "Nothing was written.",
    ]
    show(asdict(found), as_json=as_json, lines=lines)


def run_lines(uri: str, success: Success, closed_folders: int, *, already_complete: bool = False) -> list[str]:
    """Return a run's result, for people."""
    from cxrgaze_ray.archive.manifest import closed_sentence

    counts = [f"{success.counts.get(status, 0)} {status}" for status in ("scored", "skipped", "failed")]
    lines = [f"{success.rows} files: {', '.join(counts)}."]
    if already_complete:
        lines.insert(0, "This run was complete already; nothing was done. --new starts afresh.")
    else:
        lines.append(f"{success.images_per_second:.1f} images/s over {human_seconds(success.seconds)}.")
    if success.reasons:
        lines.append("Reasons: " + ", ".join(f"{name} {count}" for name, count in success.reasons.items()) + ".")
    if closed_folders:
        lines.append(closed_sentence(closed_folders))
    quoted = shlex.quote(uri)
    lines += [f"Run: {uri}", f"A page of it: cxrgaze runs report {quoted} --out report.html"]
    if success.counts.get("failed"):
        lines.append(f"Which files failed, and why: cxrgaze runs show {quoted} --failed")
    return lines
