"""The driver: plans or continues a run, gathers chunks into shards, and commits each shard once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray import telemetry
from cxrgaze_ray.cluster import Cluster, translated
from cxrgaze_ray.config import Settings
from cxrgaze_ray.errors import Interrupted
from cxrgaze_ray.identities import Identities, identities_named, open_key
from cxrgaze_ray.manifest import Manifest
from cxrgaze_ray.runs import Lease, Request, Run, Success
from cxrgaze_ray.runs.lease import drivers_summary
from cxrgaze_ray.schemas import Status
from cxrgaze_ray.scoring.pipeline import Pools, result_blocks
from cxrgaze_ray.scoring.planning import Planned, find_planned, make_planned
from cxrgaze_ray.serving import ModelSettings, batch_model


class ScoreSettings(Settings):
    """How a run is carried out; nothing here changes its rows."""

    decoders: int | None = None
    """Decoding actors; None takes the cluster's CPUs less two, for the model and for reads."""

    scorers: int = 1
    """Actors that call the model deployment; each keeps two chunks in flight."""

    model: ModelSettings = ModelSettings()
    """The model deployment, where no application is running yet."""


@dataclass
class Progress:
    """Where a run stands; given to the progress callback after every chunk."""

    total: int
    committed_before: int = 0
    committed: int = 0
    received: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Rows committed before and received since."""
        return self.committed_before + self.received

    @property
    def images_per_second(self) -> float:
        """Rate since the first chunk was asked for."""
        return self.received / self.seconds if self.seconds else 0.0


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
        Score the failed rows of the request's run again.
    stop
        Once set, open shards are completed and committed, then Interrupted is raised.
    say, on_progress
        Called with sentences for the user, and with the standing after every chunk.

    Raises
    ------
    EnvironmentFault
        If a store or the model deployment can't be reached; what was committed stands.
    Interrupted
        If `stop` was set before the end.
    """
    settings, stop = settings or ScoreSettings(), stop or threading.Event()
    chosen = Identities if request.options.identities == "keep" else identities
    found = find_planned(request, out, registry, chosen, new=new)
    if isinstance(found, Planned) and found.complete and not retry_failed:
        return _complete(found.run)
    with connect() as cluster, batch_model(settings.model, gpus=_gpus(cluster)) as model:
        planned = found
        if isinstance(planned, Manifest):
            engine: str = model.plan_engine.remote(request.engine).result()
            planned = make_planned(request, out, registry, planned, engine, new=new)
        if planned.complete and not retry_failed:
            return _complete(planned.run)
        used = identities_named(planned.run.spec.identities, chosen)
        _announce(planned, say)
        pools = Pools(settings.decoders or max(1, cluster.cpus() - 2), settings.scorers)
        with Lease(planned.run.store, lambda s: say(f"Watching for {s:.0f} s if another driver lives.")) as lease:
            driver = _Driver(planned.run, used, lease, stop, on_progress)
            with translated():
                driver.work(model.deployment_id.app_name, pools, retry_failed=retry_failed)
        success = _finish(planned.run)
    return Outcome(planned.run, success, planned.continued, already_complete=False)


def _announce(planned: Planned, say: Reporter) -> None:
    spec = planned.run.spec
    if planned.continued:
        say(f"Continuing run {spec.run_id}: {len(planned.run.live_shards())} of {spec.shards} shards are committed.")
    else:
        say(f"Run {spec.run_id}: {spec.rows} files with {spec.model.name} {spec.model.version} on {spec.engine}.")
    if not spec.model.trained:
        say("The model is untrained: its answers mean nothing.")


def _complete(run: Run) -> Outcome:
    success = run.success()
    assert success is not None
    return Outcome(run, success, continued=False, already_complete=True)


def _gpus(cluster: Cluster) -> float:
    return 1.0 if cluster.gpus() else 0.0


def _finish(run: Run) -> Success:
    figures = drivers_summary(run.store)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return run.finish(figures.get("seconds", 0.0), figures.get("images", 0.0), now)


class _Driver:
    """Gathers result rows by shard; commits a shard when it has all of them."""

    def __init__(
        self,
        run: Run,
        identities: Identities,
        lease: Lease,
        stop: threading.Event,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._run, self._identities, self._lease = run, identities, lease
        self._stop, self._on_progress = stop, on_progress
        self._open: dict[int, list[pa.Table]] = {}
        self._carried: dict[int, pa.Table] = {}
        self._retry: dict[int, int] = {}
        self._commits: list[Future[int]] = []
        self._progress = Progress(run.spec.rows)
        self._images = 0
        self._started = 0.0

    def work(self, application: str, pools: Pools, *, retry_failed: bool) -> None:
        """Score and commit all that is wanted."""
        pending = self._run.pending_shards()
        wanted = {shard: list(range(self._run.shard_rows(shard))) for shard in pending}
        if retry_failed:
            wanted |= self._failed_rows()
            if wanted:
                self._run.reopen()
        self._progress.committed_before = self._run.spec.rows - sum(len(rows) for rows in wanted.values())
        self._progress.committed = self._progress.committed_before
        self._on_progress(self._progress)
        if not wanted:
            return
        self._started = time.monotonic()
        blocks = result_blocks(self._run, wanted, application, pools, self._identities)
        try:
            with ThreadPoolExecutor(2, thread_name_prefix="commit") as commits:
                self._gather(blocks, commits)
                for commit in self._commits:
                    commit.result()
        finally:
            blocks.close()  # type: ignore[attr-defined]
            self._lease.note(seconds=time.monotonic() - self._started, images=float(self._images))
        if len(self._commits) < len(wanted):
            raise Interrupted(f"Stopped: {self._progress.committed} of {self._run.spec.rows} rows are committed.")

    def _failed_rows(self) -> dict[int, list[int]]:
        """Find failed rows, and keep the others of their shards to be written again beside them."""
        wanted = {}
        for shard, key, rows in self._run.committed():
            failed = pc.equal(rows["status"], str(Status.FAILED))
            if pc.any(failed).as_py():
                wanted[shard] = rows.filter(failed)["position"].to_pylist()
                self._carried[shard] = rows.filter(pc.invert(failed))
                self._retry[shard] = int(key.partition(".r")[2].partition(".")[0] or 0) + 1
        return wanted

    def _gather(self, blocks: Iterator[pa.Table], commits: ThreadPoolExecutor) -> None:
        for block in blocks:
            for shard in set(block["shard"].to_pylist()):
                if self._stop.is_set() and shard not in self._open:
                    continue  # after a stop only shards that were begun are still completed
                self._add(shard, block.filter(pc.equal(block["shard"], shard)), commits)
            self._raise_failed_commits()
            self._progress.seconds = time.monotonic() - self._started
            self._on_progress(self._progress)
            if self._stop.is_set() and not self._open:
                return

    def _add(self, shard: int, rows: pa.Table, commits: ThreadPoolExecutor) -> None:
        parts = self._open.setdefault(shard, [self._carried.pop(shard)] if shard in self._carried else [])
        parts.append(rows)
        self._progress.received += rows.num_rows
        self._images += rows.num_rows
        if sum(part.num_rows for part in parts) == self._run.shard_rows(shard):
            table = pa.concat_tables(self._open.pop(shard))
            self._commits.append(commits.submit(self._commit, shard, table))

    def _raise_failed_commits(self) -> None:
        for commit in self._commits:
            if commit.done():
                commit.result()

    def _commit(self, shard: int, rows: pa.Table) -> int:
        self._lease.check()
        if self._run.commit(shard, rows, self._retry.get(shard, 0)):
            telemetry.record(telemetry.SHARD_COMMITS, job="score")
            for status, reason in zip(rows["status"].to_pylist(), rows["reason_code"].to_pylist(), strict=True):
                telemetry.record(telemetry.IMAGES, job="score", status=status, reason=reason or "none")
                self._progress.counts[status] += 1
        self._progress.committed += rows.num_rows
        return shard
