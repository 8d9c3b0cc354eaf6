"""The last retraining's result as gauges in a textfile: run by hand or by cron, it leaves no process to scrape."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from types import TracebackType
from typing import get_args

from prometheus_client import Metric as Family

from cxrgaze_ray.errors import RunConflict, UserError
from cxrgaze_ray.evaluation.gate import GateReport
from cxrgaze_ray.evaluation.gate.report import Verdict
from cxrgaze_ray.lifecycle.prometheus import gauge, write_textfile
from cxrgaze_ray.lifecycle.retraining.run import Result
from cxrgaze_ray.lifecycle.retraining.workspace import Conclusion
from cxrgaze_ray.registry.ledger.rules import version_number
from cxrgaze_ray.telemetry.labels import RETRAINING_STATE
from cxrgaze_ray.telemetry.table import (
    GATE_CRITERIA,
    GATE_VALUE,
    RETRAINING,
    RETRAINING_PROMOTED,
    RETRAINING_SECONDS,
    RETRAINING_TIME_SECONDS,
    RETRAINING_VERSION,
)

STATES = RETRAINING_STATE.values
"""Every state of a retraining. wait: there was nothing to do; ask: a person has to look first."""


class Textfile:
    """Keeps a textfile up to date around a retraining; an error that leaves its block marks a failed one.

    If another retraining is at work, the file is left alone: it belongs to that one.

    Parameters
    ----------
    path
        Path of the file; None keeps none.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path

    def __enter__(self) -> Textfile:
        self._start = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, RunConflict):
            return
        with contextlib.suppress(UserError):  # the original error says more
            self._write("stopped" if isinstance(error, KeyboardInterrupt) else "failed")

    def begin(self) -> None:
        """Record that a retraining is at work.

        Raises
        ------
        UserError
            If the file can't be written.
        """
        self._write("running")

    def end(self, result: Result) -> None:
        """Record the retraining's result."""
        ended = result.conclusion
        state = ended.outcome if ended else str(result.decision.action)
        self._write(state, result.gate, ended)

    def _write(self, state: str, gate: GateReport | None = None, ended: Conclusion | None = None) -> None:
        if self._path is not None:
            write_textfile(_families(state, gate, ended, time.monotonic() - self._start), self._path)


def _families(state: str, gate: GateReport | None, ended: Conclusion | None, seconds: float) -> list[Family]:
    state_gauges = [
        gauge(RETRAINING, [((name,), float(name == state)) for name in STATES]),
        gauge(RETRAINING_PROMOTED, [((), float(ended is not None and ended.promoted))]),
        gauge(RETRAINING_VERSION, [] if ended is None else [((), version_number(ended.version))]),
        gauge(RETRAINING_SECONDS, [((), seconds)]),
        gauge(RETRAINING_TIME_SECONDS, [((), time.time())]),
    ]
    if gate is None:
        return state_gauges
    verdicts = Counter(criterion.verdict for criterion in gate.criteria)
    values = [
        ((criterion.name, model), value)
        for criterion in gate.criteria
        if criterion.subgroup is None
        for model, value in ((criterion.beside, criterion.champion), ("candidate", criterion.candidate))
        if value is not None
    ]
    return [
        *state_gauges,
        gauge(GATE_CRITERIA, [((verdict,), float(verdicts[verdict])) for verdict in get_args(Verdict)]),
        gauge(GATE_VALUE, dict(values).items()),
    ]
