"""Archive and gaze to a shard store, on Ray Data: the driver plans, and a task a shard decodes and writes it.

Pixels never reach the driver, whose memory grows with the plan alone; a worker's is set by `chunk_rows` and
`shard_rows`, never by how many files there are.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data

from cxrgaze_ray.archive.identities import Identities, identities_named, open_key
from cxrgaze_ray.archive.manifest import CLOSED, Manifest, list_archive
from cxrgaze_ray.cluster.connection import Connect, translated
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.gaze.sources import GazeSources, find_gaze
from cxrgaze_ray.radiograph.preprocess import profile_sha256
from cxrgaze_ray.shards.build import BuildShard, peak_rss_mib
from cxrgaze_ray.shards.patients import Names
from cxrgaze_ray.shards.plan import Plan, has_plan, make_plan, write_plan
from cxrgaze_ray.shards.settings import IngestSettings
from cxrgaze_ray.shards.store import TORN, ShardInfo, ShardStore, StoreInfo
from cxrgaze_ray.storage import Store, check_writable, open_store
from cxrgaze_ray.telemetry import record, table


@dataclass
class IngestProgress:
    """Where an ingest stands: files in all and done, and the most memory that a worker and the driver ever held."""

    total: int
    done: int = 0
    worker_peak_mib: float = 0.0
    driver_peak_mib: float = 0.0


def ingest(
    archive: str,
    gaze: str | Sequence[str] | None,
    out: str,
    *,
    settings: IngestSettings | None = None,
    identities: Callable[[], Identities] = open_key,
    follow_links: bool = False,
    workers: int = 1,
    connect: Connect = nullcontext,
    on_listed: Callable[[Manifest], None] = lambda _: None,
    on_progress: Callable[[IngestProgress], None] = lambda _: None,
) -> ShardStore:
    """Build a shard store; the same command continues one that was interrupted.

    Every planned file becomes a row of a shard, or a row of a reject table with its reason.

    Parameters
    ----------
    archive
        URI of the radiographs.
    gaze
        URI of EGD-CXR's tables or of REFLACX, or both; None for a store without gaze.
    out
        URI of the store.
    identities
        Gives the key of the keyed hashes; only asked where an archive is not known to be de-identified.
    follow_links
        Follow links that lead out of the archive.
    workers
        Decoding actors.
    connect
        Returns a context manager that joins a Ray cluster; only entered if there is work.
    on_listed, on_progress
        Called with the archive as it was listed, and with the standing after every shard.

    Raises
    ------
    UserError
        If another store is at `out`, or gaze, findings or splits can't be read; or a patient would lie in two splits,
        or might, because nobody names the patients (see `shards.patients`).
    EnvironmentFault
        If a store can't be reached; what was written is used again.
    """
    settings = settings or IngestSettings()
    profile = profile_sha256(settings.profile)
    sources = find_gaze([gaze] if isinstance(gaze, str) else gaze or [])
    store = open_store(out)
    check_writable(store)  # before an archive is listed for an hour
    manifest = list_archive(archive, identities, follow_links=follow_links)
    on_listed(manifest)
    named = identities_named(manifest.identities, identities)
    manifest_sha256 = manifest.sha256()
    # before the store is claimed, so that what is amiss with the tables leaves nothing that would be in the way
    planned = None if has_plan(store) else _planned(manifest, sources, settings, named)
    claim(store, manifest_sha256, sources, settings, named)
    if store.exists("store.json"):
        return ShardStore.open(out)
    plan = Plan(store) if planned is None else write_plan(store, *planned, settings.shard_rows)
    del manifest, planned  # the plan is written: the driver needs no row of it any more
    shards, counts, names = [], Counter(plan.info.counts), Names()
    with connect():
        for built in _run(plan, store, sources, settings, named, workers, on_progress):
            shards.append(ShardInfo.model_validate_json(built["shard"]))
            counts.update(json.loads(built["tally"]))
            names.add(Names.of_json(built["names"]))
    counts[TORN] = names.check(split_by_image=settings.split_by == "released")
    info = StoreInfo(
        profile=settings.profile,
        profile_sha256=profile,
        manifest_sha256=manifest_sha256,
        split=settings.split,
        split_by=settings.split_by,
        shards=sorted(shards, key=lambda shard: shard.name),
        counts={name: count for name, count in sorted(counts.items()) if count or name != TORN},
    )
    store.put("store.json", info.model_dump_json(indent=2).encode())
    return ShardStore(store, info)


def claim(
    store: Store, manifest_sha256: str, sources: GazeSources, settings: IngestSettings, identities: Identities
) -> None:
    """Write down what a store is made of, so that only the same ingest goes on with it; the key only by its name.

    Raises
    ------
    UserError
        If the store is made of something else.
    """
    wanted = {
        "manifest": manifest_sha256,
        "gaze": sources.describe(),
        "identities": identities.name,
        "settings": settings.model_dump(),
    }
    if store.put_if_absent("ingest.json", json.dumps(wanted, indent=2).encode()):
        return
    if json.loads(store.get("ingest.json")) != wanted:
        raise UserError(f"Another store is at {store.uri}.", "Use a new --out: a store is never changed.")


def _planned(
    manifest: Manifest, sources: GazeSources, settings: IngestSettings, identities: Identities
) -> tuple[pa.Table, Counter[str]]:
    rows, counts = make_plan(manifest.table, sources.read(), settings, identities)
    if closed := manifest.counts.get(CLOSED, 0):
        counts[CLOSED] = closed
    return rows, counts


def _run(
    plan: Plan,
    store: Store,
    sources: GazeSources,
    settings: IngestSettings,
    identities: Identities,
    workers: int,
    on_progress: Callable[[IngestProgress], None],
) -> Iterator[dict[str, Any]]:
    """Build every shard; yield a row of `BuildShard` for each as it is written."""
    progress, left = IngestProgress(plan.info.rows), plan.info.shards
    on_progress(progress)
    if not plan.info.rows:
        return
    reflacx = sources.reflacx.uri if sources.reflacx else None
    record(table.RUN_START_TIME, time.time(), job="ingest")
    _tell(progress, left)
    with translated():
        for built in _built(plan.info.shards, (store.uri, settings, identities, reflacx), workers):
            progress.done += json.loads(built["tally"])["files"]
            progress.worker_peak_mib = max(progress.worker_peak_mib, built["peak_rss_mib"])
            progress.driver_peak_mib = peak_rss_mib()
            left -= 1
            _tell(progress, left)
            on_progress(progress)
            yield built


def _tell(progress: IngestProgress, shards_left: int) -> None:
    record(table.SHARDS_LEFT, shards_left, job="ingest")
    for state, files in (("planned", progress.total), ("done", progress.done)):
        record(table.RUN_IMAGES, files, job="ingest", progress=state)


def _built(shards: int, arguments: tuple[Any, ...], workers: int) -> Iterator[dict[str, Any]]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True  # Ray's own wrapping loses the cause on its way here
    dataset = ray.data.range(shards, override_num_blocks=shards).map_batches(
        BuildShard,
        fn_constructor_args=arguments,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
    )
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        assert isinstance(batch, pa.Table)
        yield from batch.to_pylist()
