"""Walk a run, shard by shard, and write what is asked for. Memory is flat: a shard's rows, and an image a worker."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import pyarrow.compute as pc

from cxrgaze_ray import __version__, schemas
from cxrgaze_ray.archive.manifest import fetch_listed
from cxrgaze_ray.config import check_extra
from cxrgaze_ray.errors import (
    ConfigError,
    EnvironmentFault,
    Interrupted,
    RadiographError,
    StoreNotFound,
)
from cxrgaze_ray.export.picture import BOX, draw_result
from cxrgaze_ray.export.results import export_tables
from cxrgaze_ray.export.uids import file_name
from cxrgaze_ray.export.workbook import check_rows
from cxrgaze_ray.gaze.saliency import png_bytes
from cxrgaze_ray.models.settings import Answer
from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.schemas import Status
from cxrgaze_ray.scoring.runs import Run
from cxrgaze_ray.storage import Store

Kind = Literal["csv", "xlsx", "png", "dicom-sr", "dicom-sc"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TABLES: tuple[Kind, ...] = ("csv", "xlsx")
ENDINGS = {"png": ".png", "dicom-sr": ".sr.dcm", "dicom-sc": ".sc.dcm"}
WORKERS = 2
"""Images at once: one is fetched while another is decoded."""

_MAP_HINT, _SR_HINT = "Export csv or dicom-sr.", "Export csv, png or dicom-sc."
_HOLDS: dict[Kind, tuple[Answer, str, str]] = {
    "png": ("saliency", "An overlay shows predicted gaze", _MAP_HINT),
    "dicom-sc": ("saliency", "A Secondary Capture shows predicted gaze", _MAP_HINT),
    "dicom-sr": ("classes", "A Structured Report holds probabilities", _SR_HINT),
}
"""What a file cannot do without: see `RunSpec.check_predicts`."""

NOT_DICOM, NO_IDENTITY = "not_dicom", "no_identity"
_WRITTEN, _THERE = "written", "there"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Attributes
    ----------
    written, there
        Files written, and files that an earlier export of the run had left.
    not_scored
        Rows that the run has no answer for.
    left_out
        Other rows without a file, by why: a reason code, such as ``missing`` or ``changed``; ``not_dicom`` (only a
        DICOM source has a study to go into); ``no_identity`` (the source lacks valid UIDs, or is no radiograph of a
        standard class).
    """

    written: int = 0
    there: int = 0
    not_scored: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> dict[str, int]:
        """The files left out because they are not as the run read them, by reason: the user has to act."""
        return {reason: count for reason, count in self.left_out.items() if reason not in {NOT_DICOM, NO_IDENTITY}}


def export_run(
    run: Run,
    kind: Kind,
    out: Store,
    *,
    limit: int | None = None,
    only: str | None = None,
    with_paths: bool = False,
    stop: threading.Event | None = None,
    on_progress: Progress = lambda _done, _total: None,
) -> Exported:
    """Write a run as tables, or a file for every scored row.

    The same command continues a stopped export: files that are there already are kept. A source that is gone, changed
    or can't be read is counted, and never ends the export.

    Parameters
    ----------
    run
        Finished or not: what is committed is exported.
    kind
        csv: ``results.csv`` (`schemas.SUMMARY`, every row) and ``studies.csv``. xlsx: both as sheets of
        ``results.xlsx``. png: the overlay, ``IMAGE_ID.png``. dicom-sr, dicom-sc: an object in the source's study.
    out
        Where the files go.
    limit, only
        The first so many scored rows; those of one predicted class. Not for tables, which are whole.
    with_paths
        For tables: a first column ``uri``, which may name patients. Other files are named by image_id.
    stop
        Ends it after the images at hand.
    on_progress
        Called with rows done and rows in all.

    Raises
    ------
    ConfigError
        If `out` holds the export of another run, or an option does not fit.
    UserError
        If the run's model does not predict what the files are to hold, or a sheet can't hold its rows.
    EnvironmentFault
        If a store can't be read or written.
    Interrupted
        If `stop` was set.
    """
    if only is not None and only not in schemas.CLASSES:
        raise ConfigError(f"There is no class {only}.", f"Classes are {', '.join(schemas.CLASSES)}.")
    if only is not None:
        run.spec.check_predicts("classes", f"Only images of class {only} were asked for", "Leave --only out.")
    if kind in _HOLDS:
        run.spec.check_predicts(*_HOLDS[kind])
    if kind in TABLES:
        if limit is not None or only is not None:
            raise ConfigError(f"{kind} holds the whole table.", "Leave --limit and --only out.")
        if kind == "xlsx":
            check_rows(run.spec.rows)
        _claim(run, kind, out)
        return Exported(written=export_tables(run, kind == "xlsx", out, with_paths, on_progress))
    if with_paths:
        raise ConfigError(f"{kind} files are named by image_id.", "Export csv with --with-paths to look them up.")
    if kind != "png":
        check_extra("dicom-export")
    return _Images(run, kind, out, stop or threading.Event()).export(limit, only, on_progress)


def _claim(run: Run, kind: Kind, out: Store) -> bool:
    """Mark a folder as this run's; say whether this version of the code has written there before."""
    key, mark = f"export-{kind}.json", {"run_id": run.spec.run_id, "code_version": __version__}
    try:
        found = json.loads(out.get(key))
    except StoreNotFound:
        found = None
    except ValueError:
        found = {}
    if found is not None and (not isinstance(found, dict) or found.get("run_id") != run.spec.run_id):
        raise ConfigError(f"{out.uri} holds the export of another run.", "Name another folder: --out.")
    out.put(key, json.dumps(mark).encode())
    return found == mark


class _Images:
    """Writes a file an image."""

    def __init__(self, run: Run, kind: Kind, out: Store, stop: threading.Event) -> None:
        self._run, self._kind, self._out, self._stop = run, kind, out, stop
        self._decoders = ExitStack()
        self._local = threading.local()

    def export(self, limit: int | None, only: str | None, on_progress: Progress) -> Exported:
        known = self._there() if _claim(self._run, self._kind, self._out) else frozenset()
        plan, counts, unscored, done = self._run.plan(), Counter[str](), 0, 0
        with self._decoders, ThreadPoolExecutor(WORKERS) as pool:
            for shard, _key, table in self._run.committed():
                scored = table.filter(pc.equal(table["status"], str(Status.SCORED)))
                unscored += table.num_rows - scored.num_rows
                wanted = scored if only is None else scored.filter(pc.equal(scored["prediction"], only))
                wanted = wanted.slice(0, limit)
                limit = None if limit is None else limit - wanted.num_rows
                planned = plan.filter(pc.equal(plan["shard"], shard)).to_pylist()
                jobs = [(row, planned[row["position"]], known) for row in wanted.to_pylist()]
                counts.update(pool.map(self._one, jobs))
                if self._stop.is_set():
                    raise Interrupted("Stopped: what is written stays.")
                done += table.num_rows
                on_progress(done, self._run.spec.rows)
                if limit == 0:
                    break
        return Exported(counts.pop(_WRITTEN, 0), counts.pop(_THERE, 0), unscored, dict(sorted(counts.items())))

    def _there(self) -> frozenset[str]:
        return frozenset(info.key for info in self._out.list() if info.key.endswith(ENDINGS[self._kind]))

    def _one(self, job: tuple[dict[str, Any], dict[str, Any], frozenset[str]]) -> str:
        """Write one row's file; return what became of it."""
        row, planned, known = job
        key = file_name(row) + ENDINGS[self._kind]
        if self._stop.is_set():
            return "stopped"
        if key in known:
            return _THERE
        if self._kind != "png" and planned["format"] != "dicom":
            return NOT_DICOM
        from cxrgaze_ray.export.source import NoIdentity

        try:
            data = fetch_listed(planned)
            self._out.put(key, self._made(row, data))
        except RadiographError as error:
            return str(error.reason)
        except NoIdentity:
            return NO_IDENTITY
        except EnvironmentFault:
            self._stop.set()  # the shard's other images would each wait for the same outage
            raise
        return _WRITTEN

    def _made(self, row: dict[str, Any], data: bytes) -> bytes:
        if self._kind == "png":
            return png_bytes(self._picture(row, data))
        from cxrgaze_ray.export.dicom import DerivedObject  # highdicom takes a second that CSV and PNG do not pay
        from cxrgaze_ray.export.dicom_sc import capture_bytes
        from cxrgaze_ray.export.dicom_sr import report_bytes
        from cxrgaze_ray.export.source import read_source

        derived = DerivedObject(self._kind, self._run.spec, row, read_source(data))
        return report_bytes(derived) if self._kind == "dicom-sr" else capture_bytes(derived, self._picture(row, data))

    def _picture(self, row: dict[str, Any], data: bytes) -> Any:
        return draw_result(self._decoder().picture(data, *BOX), row, self._run.spec.model)

    def _decoder(self) -> Decoder:
        """Return this thread's decoder."""
        if not hasattr(self._local, "decoder"):
            self._local.decoder = self._decoders.enter_context(Decoder())
        decoder: Decoder = self._local.decoder
        return decoder
