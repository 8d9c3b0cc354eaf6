"""Gather result rows by shard, as the pipeline yields them, and commit each shard once it is whole."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray import telemetry
from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.errors import Interrupted
from cxrgaze_ray.registry.ledger.rules import version_number
from cxrgaze_ray.schemas import Reason, Status, status_of
from cxrgaze_ray.scoring.pipeline import Pools, result_blocks
from cxrgaze_ray.scoring.runs import Run
from cxrgaze_ray.scoring.runs.run import retry_number
from cxrgaze_ray.storage.lease import Lease
from cxrgaze_ray.telemetry import labels, table
from cxrgaze_ray.telemetry.logs import event

_LOG = logging.getLogger(__name__)

COMMITTERS, MAX_COMMITS = 4, 8
"""Shards that are written at a time, and that wait for it at most: where the store is slow, scoring waits too."""


@dataclass
class Progress:
    """Where a run stands; given to the progress callback after every chunk."""

    total: int
    committed_before: int = 0
    committed: int = 0
    received: int = 0
    seconds: float = 0.0
    open_shards: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Rows committed before and received since."""
        return self.committed_before + self.received

    @property
    def images_per_second(self) -> float:
        """Rate since the first chunk was asked for."""
        return self.received / self.seconds if self.seconds else 0.0


class Gatherer:
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
        self._wanted: dict[int, Sequence[int]] = {}
        self._before: dict[int, str] = {}
        self._commits: list[Future[int]] = []
        self._done = 0
        self._progress = Progress(run.spec.rows)
        self._images = 0
        self._started = 0.0

    def work(self, application: str, pools: Pools, *, retry_failed: bool) -> None:
        """Score and commit all that is wanted."""
        pending = self._run.pending_shards()
        wanted: dict[int, Sequence[int]] = {shard: range(self._run.shard_rows(shard)) for shard in pending}
        if retry_failed:
            wanted |= self._failed_rows()
            if wanted:
                self._run.reopen()  # first: whoever finds a killed retry must find it unfinished
        self._wanted = wanted
        self._progress.committed_before = self._run.spec.rows - sum(len(rows) for rows in wanted.values())
        self._progress.committed = self._progress.committed_before
        self._on_progress(self._progress)
        if not wanted:
            return
        self._tell_begun()
        self._tell_left()
        self._tell_standing()
        self._started = time.monotonic()
        blocks = result_blocks(self._run, wanted, application, pools, self._identities)
        try:
            with ThreadPoolExecutor(COMMITTERS, thread_name_prefix="commit") as commits:
                self._gather(blocks, commits)
                self._settle(0)
        finally:
            blocks.close()  # type: ignore[attr-defined]  # what Ray Data still has under way ends with its iterator
            self._tell_over()
            self._lease.note(seconds=time.monotonic() - self._started, images=float(self._images))
        if self._done < len(wanted):
            raise Interrupted(f"Stopped: {self._progress.committed} of {self._run.spec.rows} rows are committed.")

    def _failed_rows(self) -> dict[int, list[int]]:
        """Find the positions of failed rows; their shards' other rows are read again when a shard is committed."""
        wanted = {}
        for shard, key, rows in self._run.committed(["position", "status"]):
            failed = rows.filter(pc.equal(rows["status"], str(Status.FAILED)))
            if failed.num_rows:
                wanted[shard] = failed["position"].to_pylist()
                self._before[shard] = key
        return wanted

    def _gather(self, blocks: Iterator[pa.Table], commits: ThreadPoolExecutor) -> None:
        for block in blocks:
            for shard, rows in _by_shard(block):
                if shard in self._open or not self._stop.is_set():  # else only what was begun is still completed
                    self._add(shard, rows, commits)
            self._settle(MAX_COMMITS)
            self._progress.open_shards = len(self._open)
            self._progress.seconds = time.monotonic() - self._started
            self._tell_standing()
            self._on_progress(self._progress)
            if self._stop.is_set() and not self._open:
                return

    def _add(self, shard: int, rows: pa.Table, commits: ThreadPoolExecutor) -> None:
        parts = self._open.setdefault(shard, [])
        parts.append(rows)
        self._progress.received += rows.num_rows
        self._images += rows.num_rows
        if sum(part.num_rows for part in parts) == len(self._wanted[shard]):
            table = pa.concat_tables(self._open.pop(shard))
            # on a thread of its own: while S3 takes a second for a put, further chunks are taken from Ray
            self._commits.append(commits.submit(self._commit, shard, table))

    def _settle(self, most: int) -> None:
        """Take note of commits that are done, and raise what one failed with; wait while more than so many are not."""
        while self._commits and (self._commits[0].done() or len(self._commits) > most):
            self._commits.pop(0).result()
            self._done += 1
            self._tell_left()

    def _tell_begun(self) -> None:
        telemetry.record(table.RUN_START_TIME, time.time(), job="score")
        telemetry.record(table.MODEL_VERSION, version_number(self._run.spec.model.version), job="score")
        telemetry.begin(table.SHARD_COMMITS, job="score")
        for reason in (None, *Reason):
            status = str(status_of(reason))
            telemetry.begin(table.IMAGES, job="score", status=status, reason=reason or labels.NONE)

    def _tell_left(self) -> None:
        telemetry.record(table.SHARDS_LEFT, len(self._wanted) - self._done, job="score")

    def _tell_standing(self) -> None:
        for progress, images in (("planned", self._progress.total), ("done", self._progress.done)):
            telemetry.record(table.RUN_IMAGES, images, job="score", progress=progress)
        telemetry.record(table.QUEUE_LENGTH, len(self._open), queue="shard")
        telemetry.record(table.QUEUE_LENGTH, len(self._commits), queue="commit")

    def _tell_over(self) -> None:
        """Tell that nothing waits here any more: whatever is left, this driver is not at it."""
        telemetry.record(table.SHARDS_LEFT, 0, job="score")
        for queue in ("shard", "commit"):
            telemetry.record(table.QUEUE_LENGTH, 0, queue=queue)

    def _commit(self, shard: int, rows: pa.Table) -> int:
        self._lease.check()  # we may have slept while another driver took over; the conditional put is the last guard
        with telemetry.timed(table.STAGE_SECONDS, job="score", stage="commit"):
            whole, retry = self._completed(shard, rows)
            ours = self._run.commit(shard, whole, retry)
        if ours:
            event(_LOG, "shard committed", run=self._run.spec.run_id, shard=shard, rows=whole.num_rows)
            telemetry.record(table.SHARD_COMMITS, job="score")
            kinds = Counter(zip(rows["status"].to_pylist(), rows["reason_code"].to_pylist(), strict=True))
            for (status, reason), count in kinds.items():
                telemetry.record(table.IMAGES, count, job="score", status=status, reason=reason or labels.NONE)
                self._progress.counts[status] += count
        self._progress.committed += rows.num_rows
        return shard

    def _completed(self, shard: int, rows: pa.Table) -> tuple[pa.Table, int]:
        """Put rows that were scored again among those that stand in the shard's last file; number the new one."""
        if shard not in self._before:
            return rows, 0
        key = self._before[shard]
        stand = self._run.read_file(key)
        kept = stand.filter(pc.not_equal(stand["status"], str(Status.FAILED)))
        return pa.concat_tables([kept, rows]), retry_number(key) + 1


def _by_shard(block: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Take a block apart by shard. A chunk is of one, and is not copied: that was a quarter of the driver's work."""
    shards = block["shard"].unique().to_pylist()
    for shard in shards:
        yield shard, block if len(shards) == 1 else block.filter(pc.equal(block["shard"], shard))
