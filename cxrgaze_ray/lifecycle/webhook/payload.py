"""Alertmanager's posts: the fields that matter are read strictly, all others ignored."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import UTC
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from cxrgaze_ray.errors import UserError


class _Part(BaseModel):
    """Base of all parts; Alertmanager adds keys within version 4, so unknown ones are not an error here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Alert(_Part):
    """One alert of a group."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    starts_at: AwareDatetime = Field(alias="startsAt")

    @property
    def name(self) -> str:
        """Name of the alert's rule."""
        return self.labels.get("alertname", "")


class Notification(_Part):
    """One post of Alertmanager, version 4 of its format: the present state of an alert group."""

    version: Literal["4"]
    group_key: str = Field(alias="groupKey", min_length=1)
    alerts: tuple[Alert, ...]

    def incident(self, names: Collection[str]) -> Incident | None:
        """Return the incident of the named alerts that are firing; None if none is."""
        firing = [alert for alert in self.alerts if alert.status == "firing" and alert.name in names]
        if not firing:
            return None
        first = min(alert.starts_at for alert in firing).astimezone(UTC)
        return Incident(
            group_key=self.group_key, started_at=first.isoformat(), alerts=tuple(sorted({one.name for one in firing}))
        )


class Incident(_Part):
    """An alert group from its first firing alert on, the same however often it is repeated."""

    group_key: str
    started_at: str
    alerts: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Identity of the incident: the group, and the start of its earliest firing alert."""
        return hashlib.sha256(f"{self.group_key}\n{self.started_at}".encode()).hexdigest()


def parse(body: bytes) -> Notification:
    """Read a request body.

    Raises
    ------
    UserError
        If it is not what Alertmanager sends; the message names the first wrong key, and quotes no values.
    """
    try:
        return Notification.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"][:3])
        raise UserError(
            f"The body is not a notification of Alertmanager, version 4{f' (at {where})' if where else ''}."
        ) from error
