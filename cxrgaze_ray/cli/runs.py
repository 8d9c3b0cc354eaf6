"""cxrgaze runs: list, show, report and verify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxrgaze_ray.cli.console import bar, human_seconds, print_table, say, show
from cxrgaze_ray.cli.options import Json
from cxrgaze_ray.cli.sources import PATHS_KEPT, PATHS_LEFT_OUT, lost_pictures
from cxrgaze_ray.errors import EXIT_USER, EnvironmentFault, RadiographError, RunConflict, UserError

if TYPE_CHECKING:
    from cxrgaze_ray.scoring.runs import Run

RunUri = Annotated[str, typer.Argument(help="URI of a run.")]


def list_(
    out: Annotated[str, typer.Argument(help="Parent of runs: the folder given to `cxrgaze score --out`.")],
    as_json: Json = False,
) -> None:
    """List the runs under a parent.

    Example: cxrgaze runs list s3://results/cxr
    """
    from cxrgaze_ray.scoring.runs import find_runs

    rows = []
    for run in find_runs(out):
        spec, model = run.spec, f"{run.spec.model.name} {run.spec.model.version}"
        rows.append([spec.run_id, spec.created_at[:19], spec.rows, _state(run), model, spec.request.archive])
    columns = ["run", "planned", "files", "state", "model", "archive"]
    if as_json:
        show({"runs": [dict(zip(columns, row, strict=True)) for row in rows]}, as_json=True)
    elif rows:
        print_table(columns, rows)
    else:
        say(f"There is no run under {out}.")


def _state(run: Run) -> str:
    try:
        complete = run.success() is not None
    except RunConflict:  # if one of many runs is damaged, the others are still listed
        return "SUCCESS.json can't be read"
    return "complete" if complete else f"{len(run.live_shards())} of {run.spec.shards} shards"


def show_(
    run: RunUri,
    failed: Annotated[bool, typer.Option("--failed", help="List the files that failed, with reasons.")] = False,
    only: Annotated[
        str | None, typer.Option(help="List the files of a class, status or reason: pneumonia, skipped, truncated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="List only the first N.")] = None,
    as_json: Json = False,
) -> None:
    """Show a run and its result, or the files of one kind, the most probable of a class first.

    Lists hold the files' paths, which may name patients; nothing else shows them.

    Example: cxrgaze runs show ./results/3f0c5a9d1b2e4f67 --only pneumonia
    """
    from cxrgaze_ray.cli.run_files import show_files
    from cxrgaze_ray.errors import ConfigError
    from cxrgaze_ray.scoring.runs import Run
    from cxrgaze_ray.storage import open_store

    if failed and only is not None:
        raise ConfigError("--failed means --only failed.", "Give one of them.")
    if limit is not None and not (failed or only):
        raise ConfigError("--limit is for lists.", "Add --failed, or --only and a class, status or reason.")
    opened = Run.open(open_store(run))
    if kind := "failed" if failed else only:
        show_files(opened, kind, limit, as_json)
        return
    spec, success = opened.spec, opened.success()
    if as_json:
        done = success.model_dump(exclude={"shards"}) if success else None
        show({"spec": spec.model_dump(), "pending_shards": len(opened.pending_shards()), "success": done}, as_json=True)
        return
    trained = "" if spec.model.trained else " (UNTRAINED: its answers mean nothing)"
    rows: list[list[Any]] = [
        ["archive", spec.request.archive],
        ["model", f"{spec.model.name} {spec.model.version}{trained}"],
        ["predicts", " and ".join(spec.predicts)],
        ["engine", spec.engine],
        ["profile", spec.profile],
        ["decoding", spec.request.options.decode],
        ["identities", spec.identities],
        ["files", spec.rows],
        ["shards", f"{spec.shards - len(opened.pending_shards())} of {spec.shards} committed"],
    ]
    if spec.closed_folders:
        rows.append(["closed folders", f"{spec.closed_folders}: their contents have no row"])
    if success:
        rows += [[name, number] for name, number in success.counts.items()]
        rows += [[f"reason {name}", number] for name, number in success.reasons.items()]
        rows += [["time", f"{human_seconds(success.seconds)}, {success.images_per_second} images/s"]]
    print_table(["", ""], rows)


def report(
    run: RunUri,
    out: Annotated[str, typer.Option(help="HTML file to write.")] = "report.html",
    truth: Annotated[
        str | None, typer.Option(help="EGD-CXR tables with labels and gaze, to compute metrics with.")
    ] = None,
    with_paths: Annotated[
        bool, typer.Option("--with-paths", help="Show the files' paths, which may name patients.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a run's report: one HTML file that needs no network.

    It exits with 2 if radiographs to show are not where the run read them, and says so in their places.

    Example: cxrgaze runs report ./results/3f0c5a9d1b2e4f67 --out report.html
    """
    from cxrgaze_ray.evaluation.evaluate import evaluate_run
    from cxrgaze_ray.gaze.egd import read_egd
    from cxrgaze_ray.reports.run_report import run_report
    from cxrgaze_ray.scoring.runs import Run
    from cxrgaze_ray.storage import open_output, open_store

    store, key = open_output(out)
    opened = Run.open(open_store(run))
    lost: list[RadiographError | EnvironmentFault] = []
    with bar("Reading the run", quiet=as_json):
        tables = read_egd(open_store(truth)) if truth else None
        evaluation = evaluate_run(opened, tables) if tables else None
        caution = _caution(opened.spec.model.uri)
        page = run_report(opened, evaluation, tables, caution=caution, with_paths=with_paths, on_lost=lost.append)
    store.put(key, page.encode())
    show({"report": out, "lost": len(lost)}, as_json=as_json, lines=[f"The report is in {out}."])
    if not as_json:
        say(PATHS_KEPT if with_paths else f"{PATHS_LEFT_OUT} --with-paths shows them.")
    if lost:
        raise lost_pictures(lost, opened.spec.request.archive)


def _caution(model: str) -> str:
    """Return what a bundle's training can't vouch for; empty if the bundle is out of reach."""
    from cxrgaze_ray.models.bundle import read_info
    from cxrgaze_ray.storage import open_store

    try:
        return read_info(open_store(model).without_retries()).lineage.caution
    except (UserError, EnvironmentFault):
        return ""


def verify(run: RunUri, as_json: Json = False) -> None:
    """Prove that a run is complete (every input has one row, hashes and counts agree), or name what is wrong.

    Example: cxrgaze runs verify s3://results/cxr/3f0c5a9d1b2e4f67
    """
    from cxrgaze_ray.scoring.runs import Run, mend, verify_run
    from cxrgaze_ray.storage import open_store

    opened = Run.open(open_store(run))
    with bar("Verifying", quiet=as_json) as progress:
        problems = verify_run(opened, progress.update)
    if as_json:
        show({"run": run, "sound": not problems, "problems": [vars(one) for one in problems]}, as_json=True)
    elif problems:
        print_table(["file", "what is wrong"], [[one.file, one.what] for one in problems])
        say(mend(opened, problems))
    else:
        say(f"The run is complete: {opened.spec.rows} files, each with one row, in {opened.spec.shards} shards.")
    if problems:
        raise typer.Exit(EXIT_USER)
