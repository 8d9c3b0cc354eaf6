"""Which incidents were accepted, and when: one object each in the registry's store, written once.

<name>/retraining/triggers/<sha256>.json        the claim: this incident starts a retraining
<name>/retraining/triggers/<sha256>.submitted   the job server has it
"""

from __future__ import annotations

import uuid
from datetime import datetime

from pydantic import AwareDatetime, ValidationError

from cxrgaze_ray.config import Settings
from cxrgaze_ray.errors import RegistryError, StoreNotFound
from cxrgaze_ray.storage import Store
from cxrgaze_ray.webhook.payload import Incident

SUBMISSION_PREFIX = "cxrgaze-retrain-"
_CLAIM, _SUBMITTED = ".json", ".submitted"


class Trigger(Settings):
    """An accepted incident."""

    incident_sha256: str
    submission_id: str
    """Id of the Ray job; it follows from the incident, so that the same one can't be submitted twice."""

    at: AwareDatetime
    """When it was accepted, by the webhook's clock."""

    alerts: tuple[str, ...]
    started_at: str
    nonce: str
    """Tells whose a write was whose answer got lost."""


class Triggers:
    """The accepted incidents of one model.

    Claims never change, so each is read once. Two webhooks on one registry that are asked within the same
    instant may both accept; the retraining's own lease then lets one of the two work.

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

    def find(self, incident: Incident) -> Trigger | None:
        """Return the trigger of an incident, or None if it was not accepted yet."""
        key = incident.sha256 + _CLAIM
        return self._read(key) if key in self._known or self._store.exists(key) else None

    def last(self) -> Trigger | None:
        """Return the trigger that was accepted last."""
        try:
            keys = [info.key for info in self._store.list() if info.key.endswith(_CLAIM)]
        except StoreNotFound:  # a folder that the first claim makes
            return None
        return max(map(self._read, keys), key=lambda trigger: trigger.at, default=None)

    def claim(self, incident: Incident, at: datetime) -> Trigger:
        """Accept an incident, and return the trigger that stands for it: this one, or another's who was faster."""
        key = incident.sha256 + _CLAIM
        trigger = Trigger(
            incident_sha256=incident.sha256,
            submission_id=SUBMISSION_PREFIX + incident.sha256[:16],
            at=at,
            alerts=incident.alerts,
            started_at=incident.started_at,
            nonce=uuid.uuid4().hex,
        )
        self._store.put_if_absent(key, trigger.model_dump_json(indent=2).encode())
        return self._read(key)

    def submitted(self, trigger: Trigger) -> bool:
        """Say whether the job server has taken a trigger's job."""
        return self._store.exists(trigger.incident_sha256 + _SUBMITTED)

    def mark_submitted(self, trigger: Trigger) -> None:
        """Remember that the job server has a trigger's job, also when the cluster has long forgotten it."""
        self._store.put_if_absent(trigger.incident_sha256 + _SUBMITTED, b"")

    def _read(self, key: str) -> Trigger:
        if key not in self._known:
            try:
                self._known[key] = Trigger.model_validate_json(self._store.get(key))
            except ValidationError as error:
                raise RegistryError(
                    f"{self._store.locate(key)} is not a trigger as the webhook writes them.",
                    "Restore it; without it the webhook can't tell what was accepted when.",
                ) from error
        return self._known[key]
