"""The driver: plans or continues a run, holds its lease, has its rows gathered, and finishes it."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from cxrgaze_ray.archive.identities import Identities, identities_named, open_key
from cxrgaze_ray.archive.manifest import Manifest
from cxrgaze_ray.cluster.connection import Cluster, translated
from cxrgaze_ray.config import Settings
from cxrgaze_ray.models.predictions import told
from cxrgaze_ray.schemas import Status
from cxrgaze_ray.scoring.gather import Gatherer, Progress
from cxrgaze_ray.scoring.pipeline import Pools
from cxrgaze_ray.scoring.planning import Planned, find_planned, make_planned
from cxrgaze_ray.scoring.runs import Request, Run, Success
from cxrgaze_ray.serving import ModelSettings, batch_model
from cxrgaze_ray.storage import check_writable, open_store
from cxrgaze_ray.storage.lease import Lease, drivers_summary
from cxrgaze_ray.telemetry import timed
from cxrgaze_ray.telemetry.logs import event
from cxrgaze_ray.telemetry.table import STAGE_SECONDS

_LOG = logging.getLogger(__name__)


class ScoreSettings(Settings):
    """How a run is carried out; nothing here changes its rows."""

    decoders: int | None = Field(None, ge=1, le=100_000)
    """Decoding actors; None takes the cluster's CPUs less the model replicas' and one for reads."""

    scorers: int | None = Field(None, ge=1, le=100_000)
    """Actors that call the model deployment, each with two chunks in flight; None takes one for every replica."""

    model: ModelSettings = ModelSettings()
    """The model deployment, where no application is running yet."""


@dataclass(frozen=True)
class Outcome:
    """What a score command did."""

    run: Run
    success: Success
    continued: bool
    already_complete: bool

    @property
    def failed(self) -> int:
        """Rows whose input could not be scored."""
        return self.success.counts.get(Status.FAILED, 0)

    @property
    def closed_folders(self) -> int:
        """Folders of the archive that could not be listed: what lies in them has no row."""
        return self.run.spec.closed_folders


Reporter = Callable[[str], None]


def score_archive(
    request: Request,
    out: str,
    registry: str,
    connect: Callable[[], Any],
    *,
    settings: ScoreSettings | None = None,
    identities: Callable[[], Identities] = open_key,
    new: bool = False,
    retry_failed: bool = False,
    stop: threading.Event | None = None,
    say: Reporter = lambda _: None,
    on_listed: Callable[[Manifest], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Score every file of an archive into a run under `out`.

    Parameters
    ----------
    request
        Archive, model, engine and options.
    out
        Parent URI; the run is ``out/<run_id>/``.
    registry
        URI of the model registry.
    connect
        Returns a context manager that gives a `Cluster`; only entered if there is work.
    identities
        Gives the key of the keyed hashes; only asked where an archive is not known to be de-identified.
    new
        Plan afresh, although an unfinished or complete run of the request is there.
    retry_failed
        Score the failed rows of the request's last run again, with its plan and its weights.
    stop
        Once set, open shards are completed and committed, then Interrupted is raised.
    say, on_listed, on_progress
        Called with sentences for the user, with the archive as it was listed, and with the standing after every chunk.

    Raises
    ------
    EnvironmentFault
        If a store or the model deployment can't be reached; what was committed stands.
    RunConflict
        If another driver has the run; or if failed rows are to be scored again, and the request has no run.
    Interrupted
        If `stop` was set before the end.
    """
    settings, stop = settings or ScoreSettings(), stop or threading.Event()
    chosen = Identities if request.options.identities == "keep" else identities
    found = find_planned(request, out, registry, chosen, on_listed, new=new, retry_failed=retry_failed, say=say)
    if isinstance(found, Planned) and found.complete and not (retry_failed and _failed(found.run)):
        return _complete(found.run)
    if isinstance(found, Planned) and not retry_failed and not found.run.pending_shards():
        return _only_finish(found, say)
    check_writable(open_store(out))
    say("Starting the model, which takes up to a minute, and longer on a busy machine.")
    with connect() as cluster, batch_model(settings.model, cluster.gpus()) as model:
        if isinstance(found, Planned):
            planned = found
        else:
            planned = make_planned(request, out, found, model.plan_engine(found.pin, request.engine), new=new)
            del found  # and with it the listing of a whole archive, which the plan has taken over
            if planned.complete:
                return _complete(planned.run)
        used = identities_named(planned.run.spec.identities, chosen)
        _announce(planned, say, retry_failed=retry_failed)
        pools = Pools(settings.decoders or _decoders(cluster, settings.model), settings.scorers or model.replicas)
        event(_LOG, "run begun", run=planned.run.spec.run_id, rows=planned.run.spec.rows)
        with _lease(planned.run, say) as lease:
            gatherer = Gatherer(planned.run, used, lease, stop, on_progress)
            with translated():
                model.warm(planned.run.spec.model, planned.run.spec.engine)
                gatherer.work(model.application, pools, retry_failed=retry_failed)
            success = _finish(planned.run, lease)
    return Outcome(planned.run, success, planned.continued, already_complete=False)


def _announce(planned: Planned, say: Reporter, *, retry_failed: bool = False) -> None:
    spec = planned.run.spec
    if retry_failed:
        say(
            f"Scoring the failed rows of run {spec.run_id} again, with {spec.model.name} {spec.model.version} and the "
            "files that it was planned with."
        )
    elif planned.continued:
        say(f"Continuing run {spec.run_id}: {len(planned.run.live_shards())} of {spec.shards} shards are committed.")
    else:
        say(f"Run {spec.run_id}: {spec.rows} files with {spec.model.name} {spec.model.version} on {spec.engine}.")
    if spec.left_out:
        say(f"{spec.left_out} files are left out: other runs have rows for them.")
    if len(spec.predicts) == 1:
        say(f"The model predicts {told(spec.predicts)}.")
    if not spec.model.trained:
        say("The model is untrained: its answers mean nothing.")


def _failed(run: Run) -> int:
    success = run.success()
    return success.counts.get(Status.FAILED, 0) if success else 0


def _complete(run: Run) -> Outcome:
    success = run.success()
    assert success is not None
    return Outcome(run, success, continued=False, already_complete=True)


def _decoders(cluster: Cluster, model: ModelSettings) -> int:
    """Leave CPUs for every replica there may be, and one for reads and scorers; what others hold is not ours."""
    ours = cluster.cpus() - 1 - math.ceil(model.cpus * model.max_replicas)
    return max(1, min(ours, cluster.free_cpus() - 1))


def _only_finish(planned: Planned, say: Reporter) -> Outcome:
    """Finish a run whose last driver died after its last commit: that needs no cluster."""
    _announce(planned, say)
    with _lease(planned.run, say) as lease:
        success = _finish(planned.run, lease)
    return Outcome(planned.run, success, planned.continued, already_complete=False)


def _lease(run: Run, say: Reporter) -> Lease:
    watching = "Watching for {:.0f} s if another driver lives."
    hint = "Wait for it, or use another --out."
    return Lease(run.store, lambda s: say(watching.format(s)), what="run", hint=hint)


def _finish(run: Run, lease: Lease) -> Success:
    """Finish a run while its lease is held: nobody may reopen it meanwhile, to score failed rows again."""
    lease.check()
    others, own = drivers_summary(run.store), lease.figures
    seconds, images = (others.get(name, 0.0) + own.get(name, 0.0) for name in ("seconds", "images"))
    with timed(STAGE_SECONDS, job="score", stage="finish"):
        success = run.finish(seconds, images, datetime.now(UTC).isoformat(timespec="seconds"))
    failed = success.counts.get(Status.FAILED, 0)
    event(_LOG, "run finished", run=run.spec.run_id, rows=success.rows, failed=failed, seconds=success.seconds)
    return success
