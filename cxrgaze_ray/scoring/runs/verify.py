"""Prove that a run is complete and untouched, or name what is not."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cxrgaze_ray import schemas
from cxrgaze_ray.errors import RunConflict, StoreNotFound
from cxrgaze_ray.schemas import ANSWERS, CLASSES, Status, status_of
from cxrgaze_ray.scoring.runs.contract import RunSpec
from cxrgaze_ray.scoring.runs.run import SHARD_FILE, Run
from cxrgaze_ray.scoring.runs.success import NAME as SUCCESS
from cxrgaze_ray.scoring.runs.success import Success, seal_of
from cxrgaze_ray.scoring.runs.tables import UNREADABLE, count, summarise_studies
from cxrgaze_ray.storage.read_ahead import read_ahead

_WORDS = {"classes": "prediction", "saliency": "map"}
"""What a row has of an answer, for people."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the file it is in, and one sentence."""

    file: str
    what: str


def verify_run(run: Run, on_progress: Callable[[int, int], None] = lambda _done, _total: None) -> list[Problem]:
    """Check a run against its plan and its own account of itself.

    Every planned input has exactly one row in its shard, of the weights, engine, profile and version that run.json
    names; every shard is the file that SUCCESS.json names, by hash; statuses, reasons and probabilities agree with each
    other, and answers with what the model predicts; counts and summaries agree with the rows; run.json and SUCCESS.json
    are as they were written.

    Parameters
    ----------
    run
        Finished or not.
    on_progress
        Called with shards checked and shards in all.

    Returns
    -------
    list of Problem
        Empty if the run is complete and sound.

    Raises
    ------
    EnvironmentFault
        If the store can't be read: that proves nothing.
    """
    plan, problems = _plan(run)
    success, found = _success(run)
    problems += [*found, *_names(run)]
    if plan is None or not _fits(run.spec, plan):
        return problems
    rows, live = [], run.live_shards()
    problems += _strays(run)
    shards = range(run.spec.shards)
    keys = [live.get(shard, f"results/shard-{shard:05d}.parquet") for shard in shards]
    for shard, key, data in zip(shards, keys, read_ahead(partial(_read, run), keys), strict=True):
        planned = plan.slice(shard * run.spec.shard_rows, run.shard_rows(shard))
        found, table = _shard(key, data, planned, run.spec, success)
        problems += found
        rows += [] if table is None else [table]
        on_progress(shard + 1, run.spec.shards)
    summary = pa.concat_tables(rows) if rows else schemas.SUMMARY.empty_table()
    return problems + (list(_account(run, success, summary, set(live.values()))) if success else [])


def mend(run: Run, problems: Sequence[Problem]) -> str:
    """Return what to do about problems, in a sentence."""
    if {"plan.parquet", "run.json"} & {one.file for one in problems}:
        return "Restore plan.parquet, run.json and the folder's name, or score the archive into a new run: --new."
    wrong = [] if all(one.file == SUCCESS for one in problems) else ["the files that are wrong"]
    there = [SUCCESS] if run.store.exists(SUCCESS) else []
    if removed := " and ".join(there + wrong):
        return f"To mend it: remove {removed}, and run its score command again."
    return "Run its score command again: it goes on."


def _plan(run: Run) -> tuple[pa.Table | None, list[Problem]]:
    try:
        data = run.store.get("plan.parquet")
        plan = pq.read_table(pa.BufferReader(data), schema=schemas.PLAN)
    except (StoreNotFound, *UNREADABLE):
        return None, [Problem("plan.parquet", "The plan is missing, or can't be read.")]
    if hashlib.sha256(data).hexdigest() != run.spec.plan_sha256:
        return plan, [Problem("plan.parquet", "The plan is not the one that the run was made with.")]
    if not _fits(run.spec, plan):
        return plan, [Problem("run.json", "Its rows and shards are not those of the plan.")]
    return plan, []


def _fits(spec: RunSpec, plan: pa.Table) -> bool:
    return spec.shard_rows > 0 and (spec.rows, spec.shards) == (len(plan), -(-len(plan) // spec.shard_rows))


def _success(run: Run) -> tuple[Success | None, list[Problem]]:
    """Return the run's account of itself, and what is wrong with it on its own."""
    try:
        success = run.success()
    except RunConflict:
        return None, [Problem(SUCCESS, "It is cut, or was written by another version.")]
    if success is None:
        pending = len(run.pending_shards())
        return None, [Problem(SUCCESS, f"The run is not finished: {pending} shards are not committed.")]
    return success, list(_untouched(run, success))


def _untouched(run: Run, success: Success) -> Iterator[Problem]:
    """Check seal and hash, where the run was finished by a version that writes them."""
    if success.run_id != run.spec.run_id:
        yield Problem(SUCCESS, "It is of another run than run.json.")
    if not success.seal and not success.spec_sha256:
        return
    if success.seal != seal_of(run.store.get(SUCCESS)):
        yield Problem(SUCCESS, "It was changed after the run was finished.")
    if success.spec_sha256 != hashlib.sha256(run.store.get("run.json")).hexdigest():
        yield Problem("run.json", "It was changed after the run was finished.")


def _names(run: Run) -> Iterator[Problem]:
    if run.store.uri.rpartition("/")[2] != run.spec.run_id:
        yield Problem("run.json", "The run's folder does not have the name of the run.")


def _strays(run: Run) -> Iterator[Problem]:
    """Name files among the results that no shard of the plan has."""
    for info in run.store.list("results/"):
        match = SHARD_FILE.fullmatch(info.key)
        if match is None or int(match[1]) >= run.spec.shards:
            yield Problem(info.key, "The run has no such shard.")


def _read(run: Run, key: str) -> bytes | None:
    try:
        return run.store.get(key)
    except StoreNotFound:
        return None


def _shard(
    key: str, data: bytes | None, planned: pa.Table, spec: RunSpec, success: Success | None
) -> tuple[list[Problem], pa.Table | None]:
    """Check one shard; return its rows without maps, if it can be read."""
    if data is None:
        return [Problem(key, "The shard is missing.")], None
    try:
        table = pq.read_table(pa.BufferReader(data), schema=spec.row_schema)
    except UNREADABLE:
        return [Problem(key, "The shard can't be read.")], None
    problems = [Problem(key, what) for what in (*_rows(table, planned, spec), *_pins(table, spec))]
    if success is not None:
        named = {one.name: one.sha256 for one in success.shards}
        if key not in named:
            problems.append(Problem(key, "SUCCESS.json does not name this file."))
        elif named[key] != hashlib.sha256(data).hexdigest():
            problems.append(Problem(key, "The file was changed after the run was finished."))
    return problems, table.select(schemas.SUMMARY.names)


def _rows(table: pa.Table, planned: pa.Table, spec: RunSpec) -> Iterator[str]:
    names = ["shard", "position", "image_id"]
    if not table.select(names).combine_chunks().equals(planned.select(names).combine_chunks()):
        yield from _differences(table, planned)
    if any(
        status != str(status_of(reason))
        for status, reason in zip(table["status"].to_pylist(), table["reason_code"].to_pylist(), strict=True)
    ):
        yield "A row's status is not the one of its reason."
    scored = table.filter(pc.equal(table["status"], str(Status.SCORED)))
    yield from _answers(table, scored, spec.predicts)
    if spec.request.options.cam:
        yield from _cams(scored)


def _answers(table: pa.Table, scored: pa.Table, predicts: Collection[str]) -> Iterator[str]:
    """Name answers that rows lack, and those that their model does not give."""
    for answer, columns in ANSWERS.items():
        if answer in predicts and any(scored[name].null_count for name in columns):
            yield f"A scored row has no {_WORDS[answer]}, which the model predicts."
        if answer not in predicts and any(table[name].null_count < table.num_rows for name in columns):
            yield f"A row has a {_WORDS[answer]}, which the model does not predict."
    total = sum(scored[f"p_{name}"].to_numpy().astype(np.float64) for name in CLASSES)
    if "classes" in predicts and not np.allclose(total, 1, atol=1e-4):
        yield "A scored row's probabilities do not sum to 1."


def _cams(scored: pa.Table) -> Iterator[str]:
    if scored["cam_png"].null_count:
        yield "A scored row has no Grad-CAM, which the run was asked for."
    if set(scored["cam_target"].to_pylist()) - set(CLASSES):
        yield "A scored row's Grad-CAM explains no class."


def _pins(table: pa.Table, spec: RunSpec) -> Iterator[str]:
    """Compare what the rows were made with."""
    pins = {
        "bundle_version": spec.model.version,
        "weights_sha256": spec.model.weights_sha256,
        "profile": spec.profile,
        "engine": spec.engine,
    }
    for name, value in pins.items():
        if set(pc.unique(table[name]).to_pylist()) - {value}:
            yield f"A row's {name} is not the one of run.json."


def _differences(table: pa.Table, planned: pa.Table) -> Iterator[str]:
    wanted, there = Counter(planned["position"].to_pylist()), Counter(table["position"].to_pylist())
    if missing := sorted(wanted - there):
        yield f"{len(missing)} planned inputs have no row, the first at position {missing[0]}."
    if extra := sorted(there - wanted):
        yield f"{len(extra)} rows are twice or not planned, the first at position {extra[0]}."
    if not missing and not extra:
        yield "The rows are not in the plan's order, or of other images."


def _account(run: Run, success: Success, summary: pa.Table, live: set[str]) -> Iterator[Problem]:
    """Compare the run's own account with its rows."""
    for one in success.shards:
        if one.name not in live:
            yield Problem(one.name, "SUCCESS.json names a file that is not the shard's last.")
    if success.rows != run.spec.rows or sum(one.rows for one in success.shards) != run.spec.rows:
        yield Problem(SUCCESS, "The number of rows is not the plan's.")
    told_of = {"status": success.counts, "reason_code": success.reasons, "prediction": success.predictions}
    for column, told in told_of.items():
        if told != count(summary[column]):
            yield Problem(SUCCESS, f"The counts by {column} are not those of the rows.")
    for name, table in {"summary.parquet": summary, "studies.parquet": summarise_studies(summary)}.items():
        if not _same(run, name, table):
            yield Problem(name, "It is missing, or does not say what the rows say.")


def _same(run: Run, name: str, table: pa.Table) -> bool:
    try:
        found = pq.read_table(pa.BufferReader(run.store.get(name)), schema=table.schema)
    except (StoreNotFound, *UNREADABLE):
        return False
    return bool(found.combine_chunks().equals(table.combine_chunks()))
