"""Decide which run a command means: one to continue, one that is complete, or a new one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cxrgaze_ray import __version__
from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.manifest import CLOSED, Manifest, list_archive
from cxrgaze_ray.errors import NothingNew, RunConflict, UserError
from cxrgaze_ray.models.bundle import BundleInfo, read_info
from cxrgaze_ray.radiograph.preprocess import check_reducible, profile_sha256
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import pin_to_score
from cxrgaze_ray.scoring.new_inputs import LEFT_OUT, finished_runs, only_new
from cxrgaze_ray.scoring.runs import (
    Request,
    Run,
    RunSpec,
    chunk_rows_on,
    find_runs,
    make_plan,
    make_run_id,
    table_bytes,
)
from cxrgaze_ray.storage import check_writable, open_store


@dataclass(frozen=True)
class Planned:
    """A run, and how the command came by it."""

    run: Run
    continued: bool
    complete: bool


@dataclass(frozen=True)
class ToPlan:
    """What a new run is planned of. Its model is the one that was checked before an hour of listing: aliases move."""

    manifest: Manifest
    pin: ModelPin
    info: BundleInfo


def check_out(out: str) -> None:
    """Try at once whether a first run can be written; where there are runs, what was asked for may be done already."""
    store = open_store(out)
    if not store.folders():
        check_writable(store)


def find_planned(
    request: Request,
    out: str,
    registry: str,
    identities: Callable[[], Identities],
    on_listed: Callable[[Manifest], None] = lambda _: None,
    *,
    new: bool,
    retry_failed: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Planned | ToPlan:
    """Look for the run that a request means, or return what a new one is to be planned of.

    An unfinished run of the same request is continued with its stored plan and pinned weights, although the
    archive or the alias may have moved. A finished one stands only for the same files and the same weights; if there
    is one of others, that is said. To score failed rows again means the request's last run, and never a new one.

    Raises
    ------
    NothingNew
        If the runs that the request names as `not_in` have rows for all inputs.
    RunConflict
        If failed rows are to be scored again, and the request has no run.
    """
    if new and retry_failed:
        raise UserError("A run begun afresh has no failed rows yet.", "Leave out either --new or --retry-failed.")
    same = [] if new else [run for run in find_runs(out) if run.spec.request == request]
    wanted = same if retry_failed else [run for run in same if run.success() is None]
    if wanted:
        return _continued(wanted[-1])
    if retry_failed:
        raise RunConflict(
            f"There is no run of this command under {out}, and so no failed row.",
            f"See `cxrgaze runs list {out}`: archive, model and options must be those that the run was begun with.",
        )
    # an archive takes minutes to list: what is wrong with the model is said before
    pin, info = pin_requested(request, registry)
    if not same:
        check_writable(open_store(out))  # before an archive is listed for an hour; a finished run needs no writing
    manifest = list_wanted(request, out, identities, on_listed)
    for run in same:
        if (run.spec.manifest_sha256, run.spec.model.answers) == (manifest.sha256(), pin.answers):
            return Planned(run, continued=False, complete=True)
    if same and not request.not_in:
        say(_why_new(same[-1].spec, request, manifest, pin))
    return ToPlan(manifest, pin, info)


def _continued(run: Run) -> Planned:
    read_info(open_store(run.spec.model.uri)).check_profile(run.spec.profile)
    return Planned(run, continued=True, complete=run.success() is not None)


def _why_new(last: RunSpec, request: Request, manifest: Manifest, pin: ModelPin) -> str:
    """Say why a finished run of the same request is not what is asked for."""
    moved = last.model.answers != pin.answers
    changed = [f"{request.model} is {pin.version} now, not {last.model.version}"] if moved else []
    if last.manifest_sha256 != manifest.sha256():
        changed.insert(0, "the archive holds other files now")
    why = f"Run {last.run_id} is complete, but {', and '.join(changed)}: all is scored in a new run."
    return why if moved else f"{why} --not-in scores only what is new."


def list_wanted(
    request: Request,
    out: str,
    identities: Callable[[], Identities],
    on_listed: Callable[[Manifest], None] = lambda _: None,
) -> Manifest:
    """List the inputs of a request: all of the archive, or those that no run of `not_in` has a row for.

    `on_listed` gets the whole listing, since what it could not look into concerns the user whatever is new.
    """
    runs = finished_runs(request.not_in, out) if request.not_in else []
    manifest = list_archive(request.archive, identities, follow_links=request.follow_links)
    on_listed(manifest)
    if not request.not_in:
        return manifest
    new = only_new(manifest, runs)
    if not new.table.num_rows:
        files, seen = manifest.table.num_rows, len(runs)
        raise NothingNew(f"Nothing is new: each of the {files} files has its row in one of {seen} finished runs.")
    return new


def make_planned(request: Request, out: str, found: ToPlan, engine: str, *, new: bool) -> Planned:
    """Plan a new run; if the same run is there after all, return it."""
    manifest, pin, info = found.manifest, found.pin, found.info
    run_id = make_run_id(
        manifest.sha256(), pin, profile_sha256(info.profile), engine, request.options, manifest.identities
    )
    now = datetime.now(UTC)
    if new:
        run_id = f"{run_id}-{now:%Y%m%dT%H%M%S}"
    plan = make_plan(manifest.table, request.options.limit)
    spec = RunSpec(
        run_id=run_id,
        request=request,
        model=pin,
        predicts=info.predicts,
        profile=info.profile,
        engine=engine,
        layout=manifest.layout,
        identities=manifest.identities,
        manifest_sha256=manifest.sha256(),
        plan_sha256=hashlib.sha256(table_bytes(plan)).hexdigest(),
        rows=plan.num_rows,
        left_out=manifest.counts.get(LEFT_OUT, 0),
        closed_folders=manifest.counts.get(CLOSED, 0),
        shards=plan["shard"][-1].as_py() + 1,
        chunk_rows=chunk_rows_on(engine),
        code_version=__version__,
        created_at=now.isoformat(timespec="microseconds"),
    )
    run = Run.create(open_store(out).child(run_id), spec, plan)
    return Planned(run, continued=False, complete=run.success() is not None)


def pin_requested(request: Request, registry: str) -> tuple[ModelPin, BundleInfo]:
    """Pin the model of a request, and check that it can do what is asked."""
    pin, info = pin_to_score(registry, request.model)
    if request.options.decode == "reduced":
        check_reducible(info.profile)
    if request.options.cam:
        info.check_cam()
    return pin, info
