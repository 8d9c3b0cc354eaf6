"""Read, write and list runs: the one place that knows their file names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from cxrgaze_ray import schemas
from cxrgaze_ray.errors import RunConflict, StoreNotFound
from cxrgaze_ray.scoring.runs.contract import RunSpec
from cxrgaze_ray.scoring.runs.success import CommittedShard, Success, read_success
from cxrgaze_ray.scoring.runs.summing_up import PLANNED, SummingUp
from cxrgaze_ray.scoring.runs.tables import readable, table_bytes
from cxrgaze_ray.storage import LocalStore, Store, open_store
from cxrgaze_ray.storage.read_ahead import read_ahead

SHARD_FILE = re.compile(r"results/shard-(\d{5,})(?:\.r(\d+))?\.parquet")
"""Key of a shard's file: the shard, and which time its failed rows were scored again."""


class Run:
    """A run at ``OUT/<run_id>/``."""

    def __init__(self, store: Store, spec: RunSpec) -> None:
        self.store = store
        self.spec = spec

    @classmethod
    def create(cls, store: Store, spec: RunSpec, plan: pa.Table) -> Run:
        """Write the plan, then commit it with run.json; a run that is already there wins."""
        data = table_bytes(plan)
        if not store.put_if_absent("plan.parquet", data) and not store.exists("run.json"):
            store.put("plan.parquet", data)  # left by a driver that died before it committed the plan
        store.put_if_absent("run.json", spec.model_dump_json(indent=2).encode())
        return cls.open(store)

    @classmethod
    def open(cls, store: Store) -> Run:
        """Open a planned run.

        Raises
        ------
        RunConflict
            If there is no run at the URI, or another version wrote it.
        """
        hint = "Use the version that wrote it, or start afresh: --new."
        other = RunConflict(f"The run at {store.uri} was written by another version, or edited.", hint)
        try:
            spec = RunSpec.model_validate_json(store.get("run.json"))
        except StoreNotFound as error:
            raise RunConflict(f"There is no run at {store.uri}.", "See `cxrgaze runs list OUT`.") from error
        except ValidationError as error:
            raise other from error
        if spec.schema_version != schemas.SCHEMA_VERSION:
            raise other
        return cls(store, spec)

    def plan(self, columns: list[str] | None = None) -> pa.Table:
        """Return the plan (`schemas.PLAN`), or only the columns asked for."""
        with readable(self.store.locate("plan.parquet"), "Plan the archive afresh: --new."):
            data = pa.BufferReader(self.store.get("plan.parquet"))
            return pq.read_table(data, columns=columns, schema=schemas.PLAN)

    def live_shards(self) -> dict[int, str]:
        """Map every committed shard to its highest file's key."""
        live: dict[int, tuple[int, str]] = {}
        for info in self.store.list("results/"):
            if match := SHARD_FILE.fullmatch(info.key):
                shard, retry = int(match[1]), int(match[2] or 0)
                if shard >= self.spec.shards:
                    continue  # not of this plan: `verify_run` names it
                live[shard] = max(live.get(shard, (-1, "")), (retry, info.key))
        return {shard: key for shard, (_, key) in sorted(live.items())}

    def pending_shards(self) -> list[int]:
        """Return the shards that no file is committed for."""
        live = self.live_shards()
        return [shard for shard in range(self.spec.shards) if shard not in live]

    def shard_rows(self, shard: int) -> int:
        """Return how many rows a shard of the plan has."""
        return min(self.spec.shard_rows, self.spec.rows - shard * self.spec.shard_rows)

    def commit(self, shard: int, rows: pa.Table, retry: int = 0) -> bool:
        """Write a shard whole, once: False if another driver had committed it before.

        Raises
        ------
        ValueError
            If the rows are not exactly the shard's positions, each once.
        """
        positions = np.sort(rows["position"].to_numpy())
        if not np.array_equal(positions, np.arange(self.shard_rows(shard))) or set(rows["shard"].to_pylist()) != {
            shard
        }:
            raise ValueError(f"shard {shard} does not hold exactly its rows")
        suffix = f".r{retry}" if retry else ""
        table = rows.sort_by("position").combine_chunks()
        return self.store.put_if_absent(f"results/shard-{shard:05d}{suffix}.parquet", table_bytes(table))

    def read_shard(self, shard: int) -> pa.Table:
        """Return the live rows of a committed shard (`RunSpec.row_schema`)."""
        return self.read_file(self.live_shards()[shard])

    def committed(self, columns: list[str] | None = None) -> Iterator[tuple[int, str, pa.Table]]:
        """Yield every live shard with its key and rows, after one listing; with only the columns asked for."""
        live = self.live_shards()
        read = partial(self.read_file, columns=columns)
        for (shard, key), rows in zip(live.items(), read_ahead(read, live.values()), strict=True):
            yield shard, key, rows

    def read_file(self, key: str, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of a shard's file (`RunSpec.row_schema`); RunConflict if it can't be read."""
        with readable(self.store.locate(key)):
            return pq.read_table(pa.BufferReader(self.store.get(key)), columns=columns, schema=self.spec.row_schema)

    def tables(self, columns: list[str] | None = None, shards: Collection[int] | None = None) -> Iterator[pa.Table]:
        """Yield every live shard's rows, or those of some shards, in order, with only the columns asked for."""
        # Arrow's threads save a bucket requests; one that still holds a Python file as Python ends aborts the process
        threads = not isinstance(self.store, LocalStore)
        for key in (key for shard, key in self.live_shards().items() if shards is None or shard in shards):
            with self.store.open_input(key) as file, readable(self.store.locate(key)):
                table = pq.ParquetFile(file, pre_buffer=threads).read(columns=columns, use_threads=threads)
            yield table

    def success(self) -> Success | None:
        """Return SUCCESS.json, or None while the run is unfinished; RunConflict if it can't be read."""
        return read_success(self.store)

    def summary(self) -> pa.Table:
        """Return every row without maps (`schemas.SUMMARY`), of a run finished or not."""
        tables = list(self.tables(schemas.SUMMARY.names))
        return pa.concat_tables(tables) if tables else schemas.SUMMARY.empty_table()

    def reopen(self) -> None:
        """Make a finished run unfinished, before its failed rows are scored again."""
        self.store.delete("SUCCESS.json")

    def finish(self, seconds: float, images: float, finished_at: str) -> Success:
        """Audit the run from the bytes that stand there, write the summaries, and SUCCESS.json last.

        Raises
        ------
        RunConflict
            If a shard's file can't be read; nothing is written.
        ValueError
            If the rows are not exactly the plan's, each once: a bug, and nothing is written.
        """
        shards, sums = [], SummingUp(self.plan(PLANNED))
        for shard, table in read_ahead(self._account, self.live_shards().values()):
            shards.append(shard)
            sums.add(table)
        for name, data in sums.tables().items():
            self.store.put(name, data)
        success = Success(
            run_id=self.spec.run_id,
            rows=sums.rows,
            counts=sums.counts("status"),
            reasons=sums.counts("reason_code"),
            predictions=sums.counts("prediction"),
            seconds=round(seconds, 3),
            images_per_second=round(images / seconds, 3) if seconds else 0.0,
            shards=shards,
            finished_at=finished_at,
            spec_sha256=hashlib.sha256(self.store.get("run.json")).hexdigest(),
        ).sealed()
        self.store.put("SUCCESS.json", success.model_dump_json(indent=2).encode())
        return success

    def _account(self, key: str) -> tuple[CommittedShard, pa.Table]:
        """Return a shard's name, rows and hash, and its rows without maps."""
        data = self.store.get(key)
        with readable(self.store.locate(key)):
            table = pq.read_table(pa.BufferReader(data), columns=schemas.SUMMARY.names, use_threads=False)
        return CommittedShard(name=key, rows=table.num_rows, sha256=hashlib.sha256(data).hexdigest()), table


def retry_number(key: str) -> int:
    """Return which time a shard file's failed rows were scored again; 0 for the first file."""
    match = SHARD_FILE.fullmatch(key)
    return int(match[2] or 0) if match else 0


def find_runs(out: str) -> list[Run]:
    """Return the runs under a parent URI, in order of their planning time; those of other versions are left out."""
    store = open_store(out)
    runs = []
    for name in store.folders():
        if (child := store.child(name)).exists("run.json"):
            with suppress(RunConflict):
                runs.append(Run.open(child))
    return sorted(runs, key=lambda run: run.spec.created_at)
