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
from cxrgaze_ray.shards import ShardStore, SplitSettings, ingest
from cxrgaze_ray.shards.union import ShardUnion
from cxrgaze_ray.storage import check_writable, open_output, open_parent, open_store

_BY_SHARES = ("patient", "image")
"""Kinds of splits that follow from shares and a salt."""

_SHARES = {"train", "validation"}


def missing_stores(settings: RetrainSettings) -> list[NewData]:
    """Return the newly labelled data for which there is no finished store yet."""
    return [new for new in settings.ingest if not open_store(new.out).exists("store.json")]


def check_outputs(settings: RetrainSettings) -> None:
    """Check before the work that the page and the new stores can be written; the lease checks the registry."""
    if settings.page:
        open_output(settings.page)
    for new in missing_stores(settings):
        check_writable(open_store(new.out))


def split_of_new(settings: RetrainSettings, new: NewData) -> SplitSettings:
    """Return how newly labelled data is split: as the first store is, where its own settings do not say."""
    asked, first = new.settings.split, _first_split(settings)
    given = set(asked.model_fields_set) if "split" in new.settings.model_fields_set else set()
    if given & _SHARES:
        given |= _SHARES  # a share of one whole and one of another may be more than 1 together
    return first.model_copy(update={name: getattr(asked, name) for name in given})


def split_warnings(settings: RetrainSettings) -> list[str]:
    """Warn of stores, and of data to be made into some, whose patients are split otherwise than the first store's."""
    missing = {new.out: new for new in missing_stores(settings)}
    splits: dict[str, SplitSettings] = {}
    for uri in _uris(settings):
        if (new := missing.get(uri)) is not None:
            splits |= {uri: split_of_new(settings, new)} if new.settings.split_by in _BY_SHARES else {}
        elif (info := ShardStore.open(uri).info).split_by in (*_BY_SHARES, None):
            splits[uri] = info.split
    first = next(iter(splits), "")
    return [_warning(uri, split, first, splits[first]) for uri, split in splits.items() if split != splits[first]]


def _warning(uri: str, split: SplitSettings, first: str, its: SplitSettings) -> str:
    if split.salt != its.salt:
        return f"Warning: {uri} is split by another salt than {first}: a patient of both may lie in two splits."
    return (
        f"Warning: {uri} is split by the shares {split.train:g},{split.validation:g}, and {first} by "
        f"{its.train:g},{its.validation:g}: the test split, on which the gate judges, gets another share of them."
    )


def _uris(settings: RetrainSettings) -> list[str]:
    """Return all stores, oldest first."""
    return [*settings.stores, *(new.out for new in settings.ingest)]


def _first_split(settings: RetrainSettings) -> SplitSettings:
    """Return how the first store is split, or will be."""
    uri = _uris(settings)[0]
    to_be = {new.out: new.settings.split for new in reversed(missing_stores(settings))}
    return to_be[uri] if uri in to_be else ShardStore.open(uri).info.split


def ingest_new(
    settings: RetrainSettings,
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
            settings=new.settings.model_copy(update={"split": split_of_new(settings, new)}),
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
    if not (uris := _uris(settings)):
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
