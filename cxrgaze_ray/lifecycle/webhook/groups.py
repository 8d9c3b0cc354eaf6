"""The accepted incidents, with times: numbered objects in the registry's store, each written once.

<name>/retraining/triggers/00000001.json        the claim: this incident starts a retraining
<name>/retraining/triggers/00000001.submitted   the job server has the job
"""

from __future__ import annotations

import uuid
from datetime import datetime

from pydantic import AwareDatetime, ValidationError

from cxrgaze_ray.config import Record
from cxrgaze_ray.errors import RegistryError, StoreNotFound
from cxrgaze_ray.lifecycle.webhook.payload import Incident
from cxrgaze_ray.storage import Store

SUBMISSION_PREFIX = "cxrgaze-retrain-"
_CLAIM, _SUBMITTED = ".json", ".submitted"


class Trigger(Record):
    """An accepted incident."""

    number: int
    """Number among the accepted incidents, from 1 on."""

    incident_sha256: str
    submission_id: str
    """Id of the Ray job; it is derived from the incident, so that none can be submitted twice."""

    at: AwareDatetime
    """Time of acceptance, by the webhook's clock."""

    alerts: tuple[str, ...]
    started_at: str
    nonce: str
    """Identifies the writer of a claim when the store's answer is lost."""


class Triggers:
    """The accepted incidents of one model, in order.

    A webhook claims the number after the last that it has seen. Of two webhooks on one registry one gets it; the other
    looks again, and finds the incident accepted, or the last one too recent. Claims never change, so each is read once.

    Parameters
    ----------
    store
        The registry's store.
    name
        Name of the model.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store.child(f"{name}/retraining/triggers")
        self._known: dict[str, Trigger] = {}

    def accepted(self) -> list[Trigger]:
        """Return every trigger, in the order of acceptance."""
        try:
            keys = [info.key for info in self._store.list() if info.key.endswith(_CLAIM)]
        except StoreNotFound:  # the first claim makes the folder
            return []
        return [self._read(key) for key in keys]

    def claim(self, number: int, incident: Incident, at: datetime) -> Trigger | None:
        """Accept an incident under a number, and return its trigger; None if another webhook has taken the number."""
        trigger = Trigger(
            number=number,
            incident_sha256=incident.sha256,
            submission_id=SUBMISSION_PREFIX + incident.sha256[:16],
            at=at,
            alerts=incident.alerts,
            started_at=incident.started_at,
            nonce=uuid.uuid4().hex,
        )
        # the put's own answer may be lost, and then tells nothing: the stored nonce decides
        self._store.put_if_absent(_key(number, _CLAIM), trigger.model_dump_json(indent=2).encode())
        return trigger if self._read(_key(number, _CLAIM)).nonce == trigger.nonce else None

    def submitted(self, trigger: Trigger) -> bool:
        """Return whether the job server has taken a trigger's job."""
        return self._store.exists(_key(trigger.number, _SUBMITTED))

    def mark_submitted(self, trigger: Trigger) -> None:
        """Record that the job server has a trigger's job, to be known when the cluster has long forgotten it."""
        self._store.put_if_absent(_key(trigger.number, _SUBMITTED), b"")

    def _read(self, key: str) -> Trigger:
        if key not in self._known:
            try:
                self._known[key] = Trigger.model_validate_json(self._store.get(key))
            except ValidationError as error:
                raise RegistryError(
                    f"{self._store.locate(key)} is not a trigger that the webhook wrote.",
                    "Restore it; without it the webhook can't tell what it accepted, and when.",
                ) from error
        return self._known[key]


def _key(number: int, what: str) -> str:
    return f"{number:08d}{what}"
