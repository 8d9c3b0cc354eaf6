"""What is new in an archive: the inputs that no finished run has a row for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray.archive.manifest import Manifest
from cxrgaze_ray.errors import RunConflict
from cxrgaze_ray.scoring.runs import Run, find_runs
from cxrgaze_ray.storage import open_store

LEFT_OUT = "left_out"
"""Count of a manifest's inputs that other runs have rows for."""

_SAME = ("uri", "size_bytes", "etag")
"""What makes a listed file the one that was planned: a file that changed since is new."""


def finished_runs(uris: Iterable[str], out: str) -> list[Run]:
    """Return the finished runs that URIs name: a run, or every finished run under a parent.

    Parameters
    ----------
    uris
        URIs of runs or their parents.
    out
        The parent of the run to be planned: the only one that need not hold a run yet.

    Raises
    ------
    RunConflict
        If a run that is named is not finished, or a URI has no run at or under it.
    """
    return list({run.store.uri: run for uri in uris for run in _named(uri, open_store(out).uri)}.values())


def _named(uri: str, out: str) -> list[Run]:
    store = open_store(uri)
    if store.exists("run.json"):
        run = Run.open(store)
        if run.success() is None:
            raise RunConflict(f"The run at {uri} is not finished.", "Finish it first: its own command continues it.")
        return [run]
    runs = find_runs(uri)
    if not runs and store.uri != out:
        raise RunConflict(f"There is no run at or under {uri}.", "Check the URI: --not-in takes a run or its parent.")
    return [run for run in runs if run.success() is not None]


def only_new(manifest: Manifest, runs: Iterable[Run]) -> Manifest:
    """Leave out every input that a run has a row for: the same place, size and etag. The order stays.

    What came of the input there is not asked: a row that failed is a row.
    """
    new = np.ones(manifest.table.num_rows, bool)
    for run in runs:
        new &= ~_are_in(manifest.table, run.plan())
    counts = {**manifest.counts, LEFT_OUT: int((~new).sum())}
    return replace(manifest, table=manifest.table.filter(pa.array(new)), counts=counts)


def _are_in(table: pa.Table, plan: pa.Table) -> NDArray[np.bool_]:
    """Say which rows of a table stand in a plan."""
    numbered = pa.table({**_keys(table), "row": np.arange(table.num_rows)})
    found = numbered.join(pa.table(_keys(plan)), list(_SAME), join_type="left semi")
    present = np.zeros(table.num_rows, bool)
    present[found["row"].to_numpy()] = True
    return present


def _keys(table: pa.Table) -> dict[str, Any]:
    """Return the columns to compare; nulls get values, since a join finds no null equal to another."""
    filled = {"uri": "", "size_bytes": -1, "etag": ""}
    return {name: pc.fill_null(table[name], filled[name]) for name in _SAME}
