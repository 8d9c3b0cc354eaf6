"""Archives to runs: what `cxrgaze score` does, as a function."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from cxrgaze_ray.archive.identities import Identities, open_key
from cxrgaze_ray.archive.manifest import Manifest
from cxrgaze_ray.config import EngineKind
from cxrgaze_ray.registry.versions import default_registry
from cxrgaze_ray.scoring.planning import check_out
from cxrgaze_ray.scoring.runs import Request, Run, ScoreOptions, Success, files_of
from cxrgaze_ray.storage import open_store

if TYPE_CHECKING:
    from cxrgaze_ray.scoring.gather import Progress


def score(
    archive: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    model: str = "cxrgaze@champion",
    registry: str | os.PathLike[str] | None = None,
    engine: EngineKind = "auto",
    view: Literal["frontal", "all"] = "frontal",
    decode: Literal["full", "reduced"] = "full",
    identities: Literal["keyed", "keep"] = "keyed",
    key_file: str | os.PathLike[str] | None = None,
    follow_links: bool = False,
    limit: int | None = None,
    cam: bool = False,
    not_in: Sequence[str] = (),
    new: bool = False,
    retry_failed: bool = False,
    metrics_port: int | None = None,
    address: str | None = None,
    settings: Mapping[str, Any] | None = None,
    stop: threading.Event | None = None,
    say: Callable[[str], None] = lambda _: None,
    on_listed: Callable[[Manifest], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> ScoredRun:
    """Score an archive on Ray: one row for every file, whatever happens. The same call continues a stopped run.

    Parameters
    ----------
    archive
        A folder, a file, an ``s3://`` prefix, or a list of URIs (CSV or Parquet).
    out
        Parent of the run: a folder or an ``s3://`` prefix.
    model, registry, engine
        As in `load_model`.
    view
        ``frontal`` skips lateral views; ``all`` scores them too.
    decode
        ``reduced`` decodes JPEG and JPEG 2000 no larger than the model needs, which is faster.
    identities, key_file
        ``keyed`` replaces identifiers by hashes with the key in the file (by default one below the user's
        configuration), except in de-identified layouts; ``keep`` leaves them.
    follow_links
        Follow links that lead out of the archive; otherwise each becomes a row that says so.
    limit
        Score only the first so many files.
    cam
        Add Grad-CAM of DenseNet's own head to every scored row: `schemas.CAM_FIELDS`.
    not_in
        Runs, or parents of runs: files that have a row in a finished run among them are left out.
    new
        Start afresh, even if there is a run to continue.
    retry_failed
        Score the failed rows of this request's last run again.
    metrics_port
        Port where Prometheus finds the metrics of a Ray that is started here, 1 to 65535; None takes a free one.
    address
        Address of a running Ray cluster; None starts one on this machine.
    settings
        Fields of `scoring.driver.ScoreSettings`: decoders, scorers, and the model's replicas.
    stop
        Once set, open shards are committed, and Interrupted is raised.
    say, on_listed, on_progress
        Called with sentences for people, with the archive as it was listed, and after every chunk.

    Raises
    ------
    ConfigError, UserError
        If an option or a location is wrong; NothingNew if `not_in` leaves nothing to score.
    EnvironmentFault
        If a store or the cluster can't be reached; what was committed stands.
    RunConflict
        If another driver has the run.
    Interrupted
        If `stop` was set before the end.
    """
    out, key = os.fspath(out), None if key_file is None else Path(key_file)
    request = make_request(
        archive,
        model=model,
        engine=engine,
        not_in=not_in,
        follow_links=follow_links,
        view=view,
        limit=limit,
        cam=cam,
        decode=decode,
        identities=identities,
    )
    check_out(out)  # before the seconds that importing Ray takes
    from cxrgaze_ray.cluster.connection import ClusterSettings, connect
    from cxrgaze_ray.scoring.driver import ScoreSettings, score_archive

    outcome = score_archive(
        request,
        out,
        default_registry(registry),
        partial(connect, ClusterSettings.build(address=address, metrics_port=metrics_port)),
        settings=ScoreSettings.build(**(settings or {})),
        identities=Identities if identities == "keep" else partial(open_key, key),
        new=new,
        retry_failed=retry_failed,
        stop=stop,
        say=say,
        on_listed=on_listed,
        on_progress=on_progress,
    )
    return ScoredRun(outcome.run, already_complete=outcome.already_complete)


def make_request(
    archive: str | os.PathLike[str],
    *,
    model: str,
    engine: EngineKind,
    not_in: Sequence[str],
    follow_links: bool,
    **options: Any,
) -> Request:
    """Return the request of a command, from the parameters of `score`; ConfigError if one is out of bounds."""
    chosen, left_out = ScoreOptions.build(**options), tuple(not_in)
    return Request.build(
        archive=os.fspath(archive),
        model=model,
        engine=engine,
        options=chosen,
        not_in=left_out,
        follow_links=follow_links,
    )


def open_run(uri: str | os.PathLike[str]) -> ScoredRun:
    """Open a run that was scored before; RunConflict if there is none."""
    return ScoredRun(Run.open(open_store(os.fspath(uri))))


@dataclass(frozen=True, repr=False)
class ScoredRun:
    """A run and its rows.

    Attributes
    ----------
    run
        The run on disk.
    already_complete
        Whether the call that returned it found it finished and did nothing.
    """

    run: Run
    already_complete: bool = False

    @property
    def uri(self) -> str:
        """URI of the run."""
        return self.run.store.uri

    @property
    def success(self) -> Success | None:
        """Counts of the finished run by status, reason and class; None while it is unfinished."""
        return self.run.success()

    @property
    def results(self) -> pa.Table:
        """Every row without maps: `schemas.SUMMARY`."""
        return self.run.summary()

    def files(self, kind: str) -> pa.Table:
        """Return the files of one class, status or reason with their places: ``pneumonia``, ``failed``, ``corrupt``."""
        return files_of(self.run, kind)

    def __repr__(self) -> str:
        success = self.success
        counts = "unfinished" if success is None else ", ".join(f"{n} {name}" for name, n in success.counts.items())
        return f"<run {self.uri}: {self.run.spec.rows} files, {counts}>"
