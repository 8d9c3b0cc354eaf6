"""From a notification to a submitted job, and the answer; without routes or Ray, so that it is tested without them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cxrgaze_ray.errors import EnvironmentFault, RegistryError, UserError
from cxrgaze_ray.http.refusals import Reply, refuse
from cxrgaze_ray.lifecycle.webhook.groups import SUBMISSION_PREFIX, Trigger, Triggers
from cxrgaze_ray.lifecycle.webhook.jobs import Jobs
from cxrgaze_ray.lifecycle.webhook.payload import Incident, parse
from cxrgaze_ray.lifecycle.webhook.settings import WebhookSettings

_ASK_AGAIN_S = 30
"""Seconds after which a 503 asks to try again; Alertmanager does so by itself."""

_SUBMISSION = re.compile(re.escape(SUBMISSION_PREFIX) + "[0-9a-f]{16}")


class Service:
    """Decides on notifications. The caller must see to it that only one call of `receive` runs at a time.

    Parameters
    ----------
    settings
        Settings of the webhook.
    triggers
        Triggers accepted so far.
    jobs
        Server that runs the retraining.
    now
        The clock, which tests replace.
    """

    def __init__(
        self,
        settings: WebhookSettings,
        triggers: Triggers,
        jobs: Jobs,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._triggers = triggers
        self._jobs = jobs
        self._now = now

    def receive(self, body: bytes) -> Reply:
        """Answer a notification; whatever happens, an incident leads to one retraining only."""
        try:
            incident = parse(body).incident(self._settings.alerts)
        except UserError as error:
            return refuse(400, error.message, "not_a_notification")
        if incident is None:
            return Reply(200, {"ignored": "No alert that starts a retraining is firing."})
        try:
            found = self._accept(incident)
            return found if isinstance(found, Reply) else self._started(found)
        except EnvironmentFault as error:
            return refuse(503, str(error), "unavailable", _ASK_AGAIN_S)
        except RegistryError as error:
            return refuse(500, str(error), "broken_trigger")

    def state(self, submission_id: str) -> Reply:
        """Answer with a retraining's state."""
        unknown = refuse(404, "No retraining of that id is known here.", "unknown")
        if not _SUBMISSION.fullmatch(submission_id):
            return unknown
        try:
            found = self._jobs.state(submission_id)
        except EnvironmentFault as error:
            return refuse(503, str(error), "unavailable", _ASK_AGAIN_S)
        if found is None:
            return unknown
        return Reply(200, {"submission_id": submission_id, "state": found.state, "exit_code": found.exit_code})

    def latest(self) -> tuple[Trigger, str] | None:
        """Return the last trigger and the state of its job, for the gauges; None if there is none."""
        try:
            accepted = self._triggers.accepted()
            found = self._jobs.state(accepted[-1].submission_id) if accepted else None
        except (EnvironmentFault, RegistryError):
            return None
        return None if found is None else (accepted[-1], found.state)

    def _accept(self, incident: Incident) -> Trigger | Reply:
        """Return the trigger that stands for an incident, or why it is not accepted."""
        while True:  # if another webhook was faster, look again
            accepted = self._triggers.accepted()
            same = [one for one in accepted if one.incident_sha256 == incident.sha256]
            if same:
                return same[0]
            if accepted and (refused := self._too_soon(accepted[-1])):
                return refused
            number = accepted[-1].number + 1 if accepted else 1
            if trigger := self._triggers.claim(number, incident, self._now()):
                return trigger

    def _too_soon(self, last: Trigger) -> Reply | None:
        age = self._now() - last.at
        if age < -timedelta(seconds=self._settings.clock_tolerance_s):
            return refuse(
                409,
                f"The last retraining was accepted at {last.at.isoformat(timespec='seconds')}, which is in the future "
                "here: clocks disagree. Set this one, or retrain by hand.",
                "clocks_disagree",
            )
        wait = timedelta(hours=self._settings.least_hours_between) - max(age, timedelta())
        if wait <= timedelta():
            return None
        return refuse(
            429,
            f"The last retraining was accepted {age / timedelta(hours=1):.1f} hours ago; at least "
            f"{self._settings.least_hours_between:g} lie between two.",
            "too_soon",
            math.ceil(wait.total_seconds()),
        )

    def _started(self, trigger: Trigger) -> Reply:
        """Submit the job unless that was done: also for a webhook that ended between its claim and this step."""
        body = {"submission_id": trigger.submission_id}
        if self._triggers.submitted(trigger):
            return Reply(200, body)
        metadata = {"incident": trigger.incident_sha256, "alerts": ",".join(trigger.alerts)}
        self._jobs.submit(trigger.submission_id, self._settings.entrypoint(), metadata)
        self._triggers.mark_submitted(trigger)
        return Reply(202, body)
