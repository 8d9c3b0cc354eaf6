"""The data of a retraining: all stores as one, and those that the champion has not learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cxrgaze_ray.archive.identities import Identities, open_key
from cxrgaze_ray.archive.manifest import CLOSED, closed_sentence
from cxrgaze_ray.cluster.connection import Connect
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.lifecycle.monitoring.report import MonitorReport
from cxrgaze_ray.lifecycle.retraining.settings import NewData, RetrainSettings
from cxrgaze_ray.models.bundle import BundleInfo
from cxrgaze_ray.shards import ShardStore, ingest
from cxrgaze_ray.shards.union import ShardUnion
from cxrgaze_ray.storage import check_writable, open_output, open_parent, open_store


def missing_stores(settings: RetrainSettings) -> list[NewData]:
    """Return the newly labelled data for which there is no finished store yet."""
    return [new for new in settings.ingest if not open_store(new.out).exists("store.json")]


def check_outputs(settings: RetrainSettings) -> None:
    """Check before the work that the page and the new stores can be written; the lease checks the registry."""
    if settings.page:
        open_output(settings.page)
    for new in missing_stores(settings):
        check_writable(open_store(new.out))


def ingest_new(
    missing: Sequence[NewData],
    say: Callable[[str], None],
    on_progress: Callable[[str, int, int], None],
    connect: Connect,
    identities: Callable[[], Identities] = open_key,
) -> None:
    """Make shard stores of newly labelled data, on the cluster that `connect` joins."""
    for new in missing:
        say(f"Ingesting newly labelled radiographs into {new.out}.")
        made = ingest(
            new.archive,
            new.gaze,
            new.out,
            settings=new.settings,
            identities=identities,
            follow_links=new.follow_links,
            workers=2,
            connect=connect,
            on_progress=lambda state: on_progress("ingesting", state.done, state.total),
        )
        if closed := made.info.counts.get(CLOSED, 0):
            say(closed_sentence(closed))


def open_stores(settings: RetrainSettings) -> ShardUnion:
    """Open all stores as one; UserError if there is none, or if they do not fit together."""
    uris = [*settings.stores, *(new.out for new in settings.ingest)]
    if not uris:
        raise UserError("The settings name no store to learn from.", "Name some under stores or ingest.")
    return ShardUnion([ShardStore.open(uri) for uri in uris])


def learned_from(info: BundleInfo) -> tuple[str, ...]:
    """Return the hashes of the stores that a bundle learned from, as far as its lineage says."""
    known = info.lineage.stores or tuple(filter(None, [info.lineage.store_sha256]))
    return tuple(known)


def read_reports(uris: Sequence[str]) -> list[MonitorReport]:
    """Read the monitor's reports; UserError if a file is not one."""
    reports = []
    for uri in uris:
        store, key = open_parent(uri)
        try:
            reports.append(MonitorReport.model_validate_json(store.get(key)))
        except ValueError as error:
            raise UserError(f"{uri} is not a monitor's report.", "Make one: cxrgaze monitor --json-out F.") from error
    return reports
