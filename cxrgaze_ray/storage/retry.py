"""The one place where requests are retried, and the one budget for retries."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential
from tenacity.stop import stop_base

from cxrgaze_ray import telemetry
from cxrgaze_ray.errors import StoreUnavailable
from cxrgaze_ray.telemetry.logs import event
from cxrgaze_ray.telemetry.table import S3_RETRIES

SHORTEST_WAIT_S = 0.05
LONGEST_WAIT_S = 5.0
"""Longest wait between attempts, so that work resumes soon after an outage of any length."""
_FIRST_WAIT_S = 0.2

_TELLS_AT = 3
"""The failed attempt at which somebody who waits is told: the first ones are nothing out of the ordinary."""

SILENT = "Storage does not answer as it should; it is asked again (for how long, says CXRGAZE_S3_RETRY_S)."

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


class Transient(StoreUnavailable):
    """A failure that may pass by itself."""


def retry(operation: Callable[[], T], budget_s: float) -> T:
    """Call until there is no `Transient` failure, with growing random waits of at most `LONGEST_WAIT_S`.

    Parameters
    ----------
    operation
        What to call; it must be idempotent.
    budget_s
        Seconds from the first failure within which another attempt may begin; 0 for a single one.

    Raises
    ------
    StoreUnavailable
        If the budget is spent: the last failure, with the seconds spent.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(Transient),
        wait=wait_random_exponential(_FIRST_WAIT_S, LONGEST_WAIT_S, min=SHORTEST_WAIT_S),
        stop=_Budget(budget_s),
        before_sleep=_before_sleep,
        reraise=True,
    )
    try:
        return retrying(operation)
    except Transient as error:
        telemetry.record(S3_RETRIES, outcome="gave_up")
        # in the hint, which is kept where the message is repeated without the object's name
        spent = f"It was retried for {budget_s:g} s. " if budget_s else ""
        raise StoreUnavailable(error.message, spent + error.hint) from error.__cause__


def _before_sleep(state: RetryCallState) -> None:
    telemetry.record(S3_RETRIES, outcome="again")
    if state.attempt_number == _TELLS_AT:  # without a handler of its own, a warning goes to the terminal
        event(_LOG, SILENT, logging.WARNING)


class _Budget(stop_base):
    """Ends the attempts of one operation; the time of the first failure counts, not that of the first attempt."""

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s
        self._first: float | None = None

    def __call__(self, state: RetryCallState) -> bool:
        now = state.outcome_timestamp or 0.0
        self._first = now if self._first is None else self._first
        return now + state.upcoming_sleep - self._first > self._budget_s
