"""List a run's files of a class, a status or a reason, with their paths, on the user's own terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cxrgaze_ray.cli.console import say, show
from cxrgaze_ray.reports.printable import printable

if TYPE_CHECKING:
    from cxrgaze_ray.scoring.runs import Run


def show_files(run: Run, kind: str, limit: int | None, as_json: bool) -> None:
    """List the files whose rows are of a kind (see `runs.files_of`), with the path last, so that nothing cuts it."""
    from cxrgaze_ray.scoring.runs import files_of

    found = files_of(run, kind)
    rows = found.slice(0, limit).to_pylist()
    if as_json:
        show({"run": run.store.uri, "only": kind, "count": found.num_rows, "files": rows}, as_json=True)
        return
    say(_told(found.num_rows, len(rows), kind, run))
    if rows:
        width = max(len(_head(row)) for row in rows)
        lines = [printable(f"{_head(row):{width}}  {row['image_id'] or '-'}  {row['uri']}") for row in rows]
        show({}, as_json=False, lines=lines)
    for sentence in _meanings(rows):
        say(sentence)


def _told(count: int, shown: int, kind: str, run: Run) -> str:
    if not count:
        told = f"No file of the run is {kind}."
    else:
        first = f", of which the first {shown} follow" if shown < count else ""
        told = f"{count} of {run.spec.rows} files: {kind}{first}."
    pending = len(run.pending_shards())
    return f"{told} The run is not finished: {pending} shards are still to come." if pending else told


def _head(row: dict[str, Any]) -> str:
    """Return a file's result in brief: its reason, or the probability of its class."""
    if row["prediction"] is None:
        return str(row["reason_code"] or row["status"])
    return f"{row['prediction']} {100 * row['p_' + row['prediction']]:5.1f}%"


def _meanings(rows: list[dict[str, Any]]) -> list[str]:
    """Explain the reasons that occur in rows, each once."""
    from cxrgaze_ray.schemas import REASON_HELP, Reason

    codes = dict.fromkeys(row["reason_code"] for row in rows if row["reason_code"])
    return [f"{code}: {REASON_HELP[Reason(code)]}" for code in codes]
