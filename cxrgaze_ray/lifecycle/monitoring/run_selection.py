"""Which runs a side is made of: those that are named, and the finished ones under a parent."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.scoring.runs import Run, find_runs
from cxrgaze_ray.storage import open_store

_APART = "Name earlier runs as the baseline, and later ones as the current side."


def open_runs(uris: Sequence[str], *, last: int | None = None, without: Collection[str] = ()) -> list[Run]:
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
        If a run that is named is unfinished, or a parent has no finished one beside those left out.
    """
    selected: dict[str, Run] = {}
    for uri in uris:
        for run in _open(uri, last, without):
            selected.setdefault(run.store.uri, run)
    return sorted(selected.values(), key=lambda run: run.spec.created_at)


def _open(uri: str, last: int | None, without: Collection[str]) -> list[Run]:
    store = open_store(uri)
    if store.exists("run.json"):
        run = Run.open(store)
        if run.success() is None:
            raise UserError(f"The run at {uri} is unfinished.", "Finish it: the command that began it goes on.")
        return [run]
    runs = list(find_runs(uri))
    if not runs:
        raise UserError(
            f"There is no run at or under {uri} that this version reads.",
            "Name a run, or what `cxrgaze score --out` was given.",
        )
    finished = [run for run in runs if run.success() is not None]
    if not finished:
        hint = "Finish one: the command that began it goes on."
        raise UserError(f"No run under {uri} is finished.", hint)
    others = [run for run in finished if run.store.uri not in without]
    if not others:
        raise UserError(f"Every finished run under {uri} is in the baseline already.", _APART)
    return others if last is None else others[-last:]


def check_apart(baseline: Sequence[Run], current: Sequence[Run]) -> None:
    """Refuse sides of the same runs: what is compared with itself has never changed."""
    if {run.store.uri for run in baseline} >= {run.store.uri for run in current}:
        raise UserError("Baseline and current are the same runs.", _APART)
