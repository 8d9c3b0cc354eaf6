"""Which runs a side is made of: those that are named, and the finished ones under a parent."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.runs import Run, find_runs
from cxrgaze_ray.storage import open_store


def open_window(uris: Sequence[str], *, last: int | None = None, without: Collection[str] = ()) -> list[Run]:
    """Open the runs of a side, by time of planning, each once.

    Parameters
    ----------
    uris
        Runs, or parents of runs: of a parent, all that are finished.
    last
        Only the newest ones of a parent.
    without
        URIs of runs that are left out of parents: the other side's.

    Raises
    ------
    UserError
        If a run that is named is unfinished, or a parent has no finished one.
    """
    found: dict[str, Run] = {}
    for uri in uris:
        for run in _open(uri, last, without):
            found.setdefault(run.store.uri, run)
    return sorted(found.values(), key=lambda run: run.spec.created_at)


def _open(uri: str, last: int | None, without: Collection[str]) -> list[Run]:
    store = open_store(uri)
    if store.exists("run.json"):
        run = Run.open(store)
        if run.success() is None:
            raise UserError(f"The run at {uri} is unfinished.", "Finish it: the command that began it goes on.")
        return [run]
    finished = [run for run in find_runs(uri) if run.store.uri not in without and run.success() is not None]
    if not finished:
        raise UserError(f"There is no finished run at or under {uri}.", "See `cxrgaze runs list`.")
    return finished if last is None else finished[-last:]
