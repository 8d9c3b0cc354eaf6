"""Compare two sides' runs once, or repeatedly as runs arrive, and write the reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from threading import Event

from cxrgaze_ray.config import Settings, Uri
from cxrgaze_ray.errors import CxrgazeError
from cxrgaze_ray.gaze.egd import read_egd
from cxrgaze_ray.lifecycle.monitoring.compare import monitor
from cxrgaze_ray.lifecycle.monitoring.gauges import families
from cxrgaze_ray.lifecycle.monitoring.page import monitor_page
from cxrgaze_ray.lifecycle.monitoring.report import MonitorReport
from cxrgaze_ray.lifecycle.monitoring.run_selection import check_apart, open_runs
from cxrgaze_ray.lifecycle.monitoring.settings import MonitorSettings
from cxrgaze_ray.lifecycle.prometheus import check_textfile, write_textfile
from cxrgaze_ray.scoring.runs import Run
from cxrgaze_ray.storage import open_output, open_parent, open_store


class Outputs(Settings):
    """Where a report is written; a place that is not named gets nothing."""

    out: Uri | None = None
    """Place for the HTML page."""

    json_out: Uri | None = None
    textfile: Uri | None = None
    """Local file for gauges in Prometheus's text format."""

    def check(self) -> None:
        """Try each named place before the work: UserError or EnvironmentFault if it can't be written."""
        for uri in filter(None, (self.out, self.json_out)):
            open_output(uri)
        if self.textfile is not None:
            check_textfile(self.textfile)

    def write(self, report: MonitorReport) -> None:
        """Write the report to every named place."""
        for uri, text in ((self.out, monitor_page), (self.json_out, lambda report: report.model_dump_json(indent=2))):
            if uri is not None:
                store, key = open_parent(uri)
                store.put(key, text(report).encode())
        if self.textfile is not None:
            write_textfile(families(report), self.textfile)


class Watch:
    """Two sides' runs, which are compared whenever `look` is called.

    Parameters
    ----------
    baseline, current
        URIs: see `open_runs`. Under a parent, runs that have finished since are added; a parent on the current
        side does not yield the runs of the baseline.
    last
        Number of newest runs to use from each parent on the current side.
    labels
        EGD-CXR tables, read again each time.
    """

    def __init__(
        self,
        baseline: Sequence[str],
        current: Sequence[str],
        settings: MonitorSettings,
        *,
        last: int | None = None,
        labels: str | None = None,
    ) -> None:
        self._baseline, self._current, self._last, self._labels = baseline, current, last, labels
        self._settings = settings
        self._compared: tuple[object, MonitorReport] | None = None

    def look(self, on_progress: Callable[[int, int], None] = lambda _done, _total: None) -> MonitorReport:
        """Compare the runs there are now; if none is new since the last look, return that report.

        `on_progress` is told the number of shards that are read, and of all.
        """
        baseline = open_runs(self._baseline)
        current = open_runs(self._current, last=self._last, without={run.store.uri for run in baseline})
        check_apart(baseline, current)
        if self._labels is not None:
            return monitor(baseline, current, self._settings, read_egd(open_store(self._labels)), on_progress)
        state = (_state(baseline), _state(current))
        if self._compared is not None and self._compared[0] == state:
            return self._compared[1].model_copy(update={"made_at": datetime.now(UTC).isoformat()})
        report = monitor(baseline, current, self._settings, on_progress=on_progress)
        self._compared = (state, report)
        return report

    def keep_looking(
        self, every_s: float, stop: Event, show: Callable[[MonitorReport], None], say: Callable[[str], None]
    ) -> None:
        """Look again every few seconds until told to stop; report runs that can't be read, and try them again."""
        while not stop.wait(every_s):
            try:
                show(self.look())
            except CxrgazeError as error:
                say(f"{error} The last report stands; the next look is in {every_s:.0f} s.")


def _state(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return a value that changes when a run is finished, or finished again after a retry."""
    successes = [(run.store.uri, run.success()) for run in runs]
    return [(uri, success.finished_at if success else "") for uri, success in successes]
