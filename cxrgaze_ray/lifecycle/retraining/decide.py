"""Turn reports and facts into a decision, by policy. A pure function: equal inputs give equal answers anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Literal

from cxrgaze_ray.config import Record
from cxrgaze_ray.lifecycle.monitoring.report import MonitorReport
from cxrgaze_ray.lifecycle.retraining.policy import DecidePolicy, Policy

Reason = Literal["drift", "schedule", "manual"]

_DAY_S = 86_400.0


class Action(StrEnum):
    """The possible decisions."""

    RETRAIN = "retrain"
    WAIT = "wait"
    ASK = "ask"


class Situation(Record):
    """The facts known when a retraining is considered."""

    reason: Reason
    """Why a retraining is considered: an alert, the clock, or a person."""

    now: str
    """Time of the decision: UTC, ISO 8601."""

    train_patients: int
    """Number of labelled patients in the training split."""

    new_patients: int
    """Number of those in stores that the champion has not learned from, less those that it is known to have had."""

    champion_stores_named: bool = True
    """Whether all stores that the champion learned from are among these, so that nobody counts again whom it had."""

    test_patients: int
    """Number of labelled patients in the locked test split."""

    looks_used: int
    """Number of models that the locked test split has been shown to."""

    last_retraining_at: str | None = None
    """Time of the last retraining: UTC, ISO 8601; None if there was none."""


class Decision(Record):
    """What is to be done, and why: the decisive reasons first, all other findings after them."""

    action: Action
    reasons: tuple[str, ...]


_ORDER = (Action.ASK, Action.WAIT, Action.RETRAIN)


def decide(policy: Policy, situation: Situation, reports: Sequence[MonitorReport] = ()) -> Decision:
    """Decide whether to retrain, to wait, or to ask a person.

    A finding that asks for a person outweighs one to wait, which outweighs one to retrain. A person who asked for the
    retraining is not told to wait or asked again about drift, but facts that make it pointless still count.

    Parameters
    ----------
    policy
        Policy with the numbers to decide by.
    situation
        Facts to decide on.
    reports
        Reports of the monitor, newest last.

    Returns
    -------
    Decision
        Decision with at least one reason.
    """
    proposals = [*_impossible(policy, situation)]
    if situation.reason != "manual":
        proposals += [*_clock(policy.decide, situation, reports), *_too_soon(policy.decide, situation)]
        proposals += [*_drift(policy.decide, situation, reports)]
        proposals += [*_labels(policy.decide, situation, drifted=any(report.alerts for report in reports))]
    else:
        proposals.append((Action.RETRAIN, "A person asked for it."))
    action = min((action for action, _ in proposals), key=_ORDER.index)
    ordered = sorted(proposals, key=lambda proposal: proposal[0] is not action)
    return Decision(action=action, reasons=tuple(why for _, why in ordered))


Proposals = Iterator[tuple[Action, str]]


def _impossible(policy: Policy, situation: Situation) -> Proposals:
    """Yield what makes any retraining impossible, whoever asks for it."""
    if not situation.train_patients:
        yield Action.ASK, "No patient of the training split has a label: label some first."
    if not situation.test_patients:
        yield Action.ASK, "No patient of the test split has a label: nothing could be compared."
    if situation.looks_used >= policy.gate.looks:
        yield (
            Action.ASK,
            f"The test split was shown to {situation.looks_used} models, of {policy.gate.looks} that the policy "
            "allows: add newly labelled test patients as a separate store, and leave the old one out.",
        )
    if situation.reason == "manual":
        return
    if 0 < situation.train_patients < policy.decide.least_train_patients:
        yield (
            Action.ASK,
            f"Only {situation.train_patients} labelled patients to learn from; the policy asks for "
            f"{policy.decide.least_train_patients}.",
        )
    if 0 < situation.test_patients < policy.decide.least_test_patients:
        yield (
            Action.ASK,
            f"Only {situation.test_patients} labelled patients in the test split; the policy asks for "
            f"{policy.decide.least_test_patients}: the gate could not tell.",
        )


def _clock(policy: DecidePolicy, situation: Situation, reports: Sequence[MonitorReport]) -> Proposals:
    """Yield a doubt if something is dated after now: its age would be unknown."""
    reported = [("A report", report.made_at) for report in reports]
    dates = [("The last retraining", situation.last_retraining_at), *reported]
    for what, at in dates:
        if at is not None and (ahead := -_age_s(situation, at)) > policy.clock_tolerance_s:
            yield Action.ASK, f"{what} is dated {ahead / 3600:.1f} hours after this machine's clock: clocks disagree."


def _too_soon(policy: DecidePolicy, situation: Situation) -> Proposals:
    if situation.last_retraining_at is None:
        return
    days = _age_s(situation, situation.last_retraining_at) / _DAY_S
    if 0 <= days < policy.least_days_between:
        yield (
            Action.WAIT,
            f"The last retraining was {days:.1f} days ago; the policy wants {policy.least_days_between:g} between two.",
        )


def _drift(policy: DecidePolicy, situation: Situation, reports: Sequence[MonitorReport]) -> Proposals:
    """Yield what the monitor's recent reports say."""
    fresh = [report for report in reports if _age_s(situation, report.made_at) <= policy.report_days * _DAY_S]
    if situation.reason == "drift" and not fresh:
        yield Action.ASK, f"There is no report from the last {policy.report_days:g} days that could show the drift."
        return
    for report in fresh:
        if not report.enough:
            yield Action.WAIT, "A report holds too few patients to tell anything."
        for suspicion in report.suspicions:
            if suspicion.drift in policy.ask_on:
                yield Action.ASK, f"Look into this first: {suspicion.sentence}"
            elif suspicion.drift in policy.retrain_on:
                yield Action.RETRAIN, suspicion.sentence
    if situation.reason == "drift" and not any(report.alerts for report in fresh):
        yield Action.WAIT, "No report shows a drift."


def _labels(policy: DecidePolicy, situation: Situation, *, drifted: bool) -> Proposals:
    """Yield whether there is data that the champion has not learned from."""
    new, least = situation.new_patients, policy.least_new_patients
    patients = "newly labelled patients"
    if not situation.champion_stores_named:  # some of them may be whom it had, under another store's hash
        patients = "labelled patients in stores that the champion has not learned from"
    if new >= least:
        yield Action.RETRAIN, f"There are {new} {patients}."
    elif drifted:
        yield Action.ASK, f"There is a drift, and only {new} of {least} {patients}: label more of them."
    else:
        yield Action.WAIT, f"There are {new} {patients}; the policy asks for {least}."


def _age_s(situation: Situation, at: str) -> float:
    return (datetime.fromisoformat(situation.now) - datetime.fromisoformat(at)).total_seconds()
