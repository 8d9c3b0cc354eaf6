"""The runs that make up a side: those that are named, and the finished ones under a named parent."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.scoring.runs import Run, find_runs
from cxrgaze_ray.storage import open_store

_APART = "Name earlier runs as the baseline, and later ones as the current side."


def open_runs(uris: Sequence[str], *, last: int | None = None, without: Collection[str] = ()) -> list[Run]:
    """Open the runs of a side, each once, by time of planning.

    Parameters
    ----------
    uris
        Runs, or parents of runs: a parent stands for all its finished runs.
    last
        Number of a parent's newest runs to use; None for all.
    without
        URIs of runs that are left out of parents: the other side's.

    Raises
    ------
    UserError
        If a named run is unfinished, or a parent has no finished run other than those left out.
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
            raise UserError(f"The run at {uri} is unfinished.", "Finish it: run the command that began it again.")
        return [run]
    runs = list(find_runs(uri))
    if not runs:
        raise UserError(
            f"There is no run at or under {uri} that this version reads.",
            "Name a run, or the folder given to `cxrgaze score --out`.",
        )
    finished = [run for run in runs if run.success() is not None]
    if not finished:
        hint = "Finish one: run the command that began it again."
        raise UserError(f"No run under {uri} is finished.", hint)
    others = [run for run in finished if run.store.uri not in without]
    if not others:
        raise UserError(f"Every finished run under {uri} is in the baseline already.", _APART)
    return others if last is None else others[-last:]


def check_apart(baseline: Sequence[Run], current: Sequence[Run]) -> None:
    """Refuse two sides of the same runs: a comparison with itself shows no change."""
    if {run.store.uri for run in baseline} >= {run.store.uri for run in current}:
        raise UserError("Baseline and current are the same runs.", _APART)
